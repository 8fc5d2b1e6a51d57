"""Comparisons made by hand, one for every way in which their sentence can come out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from stated import Said, drawn, inspected, sinks

from npt_viz.results.comparison import COMPARED, compare
from npt_viz.results.inspection import METRICS, Inspection, Token, TopTokens
from npt_viz.results.sentences.comparison import comparison


def run_on(
    ids, values, *, layer=7, is_sink=None, first=None, mode="local", positions="deployed", kl=None
) -> Inspection:
    """A run of one layer with these ids and shares recovered."""
    n = len(ids)
    top = first and TopTokens(
        ids=np.array(first)[:, None], probabilities=np.full((n, 1), 0.5), glyphs=(("x",),) * n
    )
    kl = None if kl is None else np.asarray(kl, float)
    return Inspection(
        prompt=" ".join(map(str, ids)), model="m", checkpoint="c", mode=mode, positions=positions,
        pieces=tuple(Token(f"␣w{i}", "text", i, f"' w{i}'") for i in ids), layers={layer: inspected(layer, np.asarray(values))},
        is_sink=sinks(n) if is_sink is None else is_sink, kl=kl, nll_base=kl, nll_npt=kl, base_top=top, npt_top=top,
    )  # fmt: skip


def said_of(
    case: str, a: Inspection, b: Inspection, metric="recovered", *, layer=None, with_sinks=False
) -> Said:
    found = compare(a, b, layer=layer)
    runs, in_ab = (a, b), found.layers
    of_model = metric not in METRICS
    data = {
        "ids": [run.token_ids for run in runs],
        "values": [
            getattr(run, metric) if of_model else getattr(run.layers[at], metric)
            for run, at in zip(runs, in_ab, strict=True)
        ],
        "is_sink": [run.is_sink for run in runs],
        "first": [run.npt_top and run.npt_top.ids[:, 0] for run in runs],
        "glyphs": [run.tokens for run in runs],
        "mode": [run.mode for run in runs],
        "positions": [run.positions for run in runs],
        "layer": in_ab,
        "label": COMPARED[metric].label,
        "of_model": of_model,
        "with_sinks": with_sinks,
    }
    return Said("comparison", case, comparison(found, metric, with_sinks=with_sinks), data)


def said_of_comparisons() -> Iterator[Said]:
    n = 23
    ids = list(range(101, 101 + n))
    own = drawn(1, n, 0.4)
    ways = {
        "rises": own + 0.2 + drawn(2, n, 0, 0.02),
        "falls": own - 0.3 + drawn(3, n, 0, 0.02),
        "untold": own + drawn(4, n, 0, 0.1),
        "same": own,
        "all nan": np.full(n, np.nan),
    }
    far = own + 0.1 + drawn(5, n, 0, 0.01)
    far[[3, 11]] += (0.9, -2.7)
    for case, other in ways.items():
        yield said_of(case, run_on(ids, own), run_on(ids, other, mode="propagated", positions="trained"))
    yield said_of("outside", run_on(ids, own, first=ids), run_on(ids, far, first=ids))
    for with_sinks in (False, True):
        is_sink = sinks(n, 0, 5)
        a = run_on(ids, own, is_sink=is_sink, first=ids)
        b = run_on(ids, far, layer=11, is_sink=sinks(n, 0), first=[ids[0] - i % 2 for i in range(n)])
        yield said_of(f"sinks, {with_sinks}", a, b, layer=(7, 11), with_sinks=with_sinks)
    longer = [99, 98, *ids[:9], 97, *ids[12:]]
    yield said_of("inserted and deleted", run_on(ids, own), run_on(longer, drawn(6, len(longer), 0.9)))
    moved = run_on([*ids[:4], *ids[8:]], [*far[:4], *far[8:]])
    yield said_of("outside, elsewhere", run_on(ids, own), moved)
    yield said_of("few", run_on(ids[:5], own[:5]), run_on(ids[:4], far[:4]))
    yield said_of("one token", run_on(ids[:1], own[:1]), run_on(ids[:1], far[:1]))
    yield said_of("nothing in common", run_on(ids[:5], own[:5]), run_on(longer[:2], own[:2]))
    kl = np.abs(drawn(8, n, 0.1))
    yield said_of("of the model", run_on(ids, own, kl=kl), run_on(ids, own, kl=2 * kl), "kl")
    still = run_on(ids, own, kl=kl, first=ids)
    yield said_of("of the model, still", still, replace(still, positions="trained"), "nll_npt")

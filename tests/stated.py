"""Results made by hand, one for every way in which a sentence can come out: what the checker is tried on."""

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from npt_viz.results.attribution import Attribution, Quantity
from npt_viz.results.directions import Baseline, Directions, ExactAgreement, Unavailable, Verdict
from npt_viz.results.editing import AlphaSweep, Outcome, Recovery
from npt_viz.results.estimate import median_of
from npt_viz.results.experiments import ArmRun, ExperimentResult
from npt_viz.results.inspection import Inspection, LayerInspection, Token, TopTokens
from npt_viz.results.orthogonality import LayerOrthogonality
from npt_viz.results.reconstruction import ClassFloor, LayerFit, PositionsCompared, Reconstruction
from npt_viz.results.runs import Summary
from npt_viz.results.sentences import Basis, Sentence
from npt_viz.results.sentences.attribution import attribution
from npt_viz.results.sentences.directions import directions
from npt_viz.results.sentences.editing import strengths, transplant, update
from npt_viz.results.sentences.experiments import experiment
from npt_viz.results.sentences.orthogonality import orthogonality
from npt_viz.results.sentences.reconstruction import (
    class_floor,
    other_positions,
    positions,
    reconstruction,
)
from npt_viz.results.sentences.reconstruction import kl as kl_in_words
from npt_viz.results.sentences.runs import runs
from npt_viz.results.sentences.tokens import tokens
from npt_viz.results.sentences.training import held_out, training
from npt_viz.results.training import Seen
from npt_viz.results.transplant import Transplant


class Said(NamedTuple):
    """A sentence, what it is called in STATED, and the raw data that it is about."""

    name: str
    case: str
    sentence: Sentence
    data: dict


def drawn(seed: int, n: int, middle: float, spread: float = 0.15) -> np.ndarray:
    return np.random.default_rng(seed).normal(middle, spread, n)


def sinks(n: int, *where: int) -> np.ndarray:
    found = np.zeros(n, bool)
    found[list(where)] = True
    return found


def inspected(layer: int, recovered: np.ndarray, target: str = "gate") -> LayerInspection:
    n = len(recovered)
    column = np.linspace(0.13, 0.57, n)
    names = ("relative_error", "cosine", "magnitude_ratio", "hidden_norm", "attention_norm")
    return LayerInspection(
        layer=layer, variant="N1", recovered=recovered, scalars={target: column[:, None]}, dots_with_h={},
        update_norms={target: column}, component_norms={target: column[:, None]}, component_effects={}, changes={target: column},
        **dict.fromkeys(names, column),
    )  # fmt: skip


def run_of(
    layers: dict[int, LayerInspection], is_sink: np.ndarray, kl=None, mode="local", positions="deployed"
) -> Inspection:
    n = len(is_sink)
    return Inspection(
        prompt="", model="m", checkpoint="c", mode=mode, positions=positions, layers=layers, is_sink=is_sink, kl=kl,
        pieces=tuple(Token(f"␣w{i}" if i % 3 else "*b* (KL", "text", i, "") for i in range(n)),
    )  # fmt: skip


def of_tokens() -> Iterator[Said]:
    ways = {
        "recovers": drawn(1, 23, 0.6),
        "as good as nothing": drawn(2, 23, 0.01, 0.4),
        "worse": drawn(3, 23, -2.3, 0.4),
        "too few": drawn(4, 4, 0.5),
        "one token": drawn(5, 1, 0.5),
        "all nan": np.full(23, np.nan),
        "few, all nan": np.full(3, np.nan),
    }
    for case, recovered in ways.items():
        for with_sinks in (False, True):
            n = len(recovered)
            for is_sink in (sinks(n), sinks(n, 0), sinks(n, *range(min(2, n)))):
                kl = np.abs(drawn(7, n, 0.1))
                kl[0] = 9.0
                mode, where = ("propagated", "trained") if with_sinks else ("local", "deployed")
                run = run_of(
                    {7: inspected(7, recovered), 11: inspected(11, recovered - 0.31)},
                    is_sink,
                    kl,
                    mode,
                    where,
                )
                yield of_run(case, run, 7, with_sinks)
    still = run_of({3: inspected(3, drawn(8, 31, 0.4), "up")}, sinks(31, 0), np.zeros(31))
    yield of_run("still", still, 3, False)
    yield of_run("only rounding", replace(still, kl=np.full(31, 3e-12)), 3, False)
    yield of_run("no logits", replace(still, kl=None), 3, False)


def of_run(case: str, run: Inspection, layer: int, with_sinks: bool) -> Said:
    data = {
        "layer": layer, "recovered": run.layers[layer].recovered, "is_sink": run.is_sink, "with_sinks": with_sinks,
        "mode": run.mode, "positions": run.positions, "gate_change": next(iter(run.layers[layer].changes.values())),
        "target": next(iter(run.layers[layer].changes)), "kl": run.kl, "tokens": [piece.glyph for piece in run.pieces],
        "recovered_of": {number: each.recovered for number, each in run.layers.items()},
    }  # fmt: skip
    return Said("tokens", case, tokens(run, layer, with_sinks=with_sinks), data)


def fit_of(recovered: np.ndarray, layer: int = 15) -> LayerFit:
    names = (
        "relative_error", "cosine", "magnitude_ratio", "error_along", "error_beside", "unmodulated_error",
        "unmodulated_along", "exact_error",
    )  # fmt: skip
    zeros = dict.fromkeys(names, np.zeros(len(recovered)))
    return LayerFit(layer=layer, variant="N1", reconstructs="a + MLP(z_C)", recovered=recovered, **zeros)


def reconstructed(recovered, is_sink, positions="deployed") -> Reconstruction:
    fit = {15: fit_of(recovered)}
    glyphs = tuple(f"w{i}" for i in range(len(recovered)))
    return Reconstruction(tokens=glyphs, is_sink=is_sink, positions=positions, local=fit, propagated=fit)


def floor(targets=("gate",), recovered=0.40, adapter=0.42, train=0.5) -> ClassFloor:
    return ClassFloor(
        layer=15, targets=targets, rank=64, components=1 + len(targets), steps=400, seed=3, n_train=5013, n_heldout=811,
        recovered=recovered, recovered_train=train, adapter_recovered=adapter, positions="deployed",
    )  # fmt: skip


FLOORS = {
    "good": floor(),
    "better than the checkpoint": floor(recovered=0.61, train=0.70),
    "diverged": floor(recovered=-0.92, train=-0.85, adapter=0.76),
    "seen in training": replace(floor(), adapter_seen=Seen(n_tokens=811, n_seen=307)),
    "remembers": floor(recovered=0.2, train=0.9),
    "of another class": floor(("gate", "up"), 0.8, math.nan, 0.83),
    "of another class, diverged": floor(("gate", "up", "down"), -0.3, math.nan, -0.1),
}


def of_reconstruction() -> Iterator[Said]:
    ways = {"recovers": drawn(1, 23, 0.6), "nothing": drawn(2, 23, 0.02, 0.4), "worse": drawn(3, 23, -2.3), "few": drawn(4, 4, 0.5), "nan": np.full(9, np.nan)}  # fmt: skip
    larger = (FLOORS["of another class"], FLOORS["of another class, diverged"])
    floors = [(), *((own, *larger[:i]) for own in (FLOORS["good"], FLOORS["diverged"]) for i in range(3))]
    for case, recovered in ways.items():
        for i, known in enumerate(floors if case == "recovers" else floors[:1]):
            is_sink = sinks(len(recovered), 0)
            result = reconstructed(recovered, is_sink)
            mode = "propagated" if i % 2 else "local"
            sentence = reconstruction(result, 15, mode=mode, floors=known)
            data = {
                "layer": 15, "variant": "N1", "recovered": recovered, "reconstructs": "a + MLP(z_C)", "is_sink": is_sink,
                "with_sinks": False, "mode": mode, "positions": "deployed", "floors": known,
            }  # fmt: skip
            yield Said("reconstruction", f"{case} {i}", sentence, data)


def of_floors() -> Iterator[Said]:
    for case, each in FLOORS.items():
        yield Said("class floor", case, class_floor(each), {"floor": each})


def of_positions() -> Iterator[Said]:
    ways = {
        "without": (drawn(1, 101, 0.2), drawn(2, 101, 0.8, 0.05)),
        "no sign": (drawn(1, 101, 0.7, 0.05), drawn(2, 101, 0.75, 0.05)),
        "few": (drawn(1, 18, 0.4), drawn(2, 18, 0.7)),
        "very few": (drawn(1, 3, 0.4), drawn(2, 3, 0.7)),
        "neither": (drawn(1, 101, -3.0), drawn(2, 101, -0.5)),
    }
    for case, (deployed, trained) in ways.items():
        is_sink = sinks(len(deployed), 0)
        both = PositionsCompared(
            deployed=reconstructed(deployed, is_sink), trained=reconstructed(trained, is_sink, "trained")
        )
        basis = Basis(is_sink=is_sink)
        data = {
            "layer": 15,
            "deployed": deployed,
            "trained": trained,
            "is_sink": is_sink,
            "with_sinks": False,
        }
        yield Said("positions", case, positions(both, 15, basis), data)
        for shown in ("deployed", "trained"):
            yield Said(
                "other positions",
                f"{case}, {shown}",
                other_positions(both, 15, replace(basis, positions=shown)),
                data | {"positions": shown},
            )


def of_kl() -> Iterator[Said]:
    for case, n, layers in (("several", 23, (7, 11)), ("one", 19, (7,)), ("few", 4, (7,))):
        values = np.abs(drawn(7, n, 0.1))
        run = run_of({layer: inspected(layer, drawn(1, n, 0.6)) for layer in layers}, sinks(n, 0), values)
        data = {
            "recovered_of": run.layers, "kl": values, "is_sink": run.is_sink, "with_sinks": False, "positions": run.positions,
        }  # fmt: skip
        yield Said("kl", case, kl_in_words(run, Basis(is_sink=run.is_sink)), data)


def of_directions() -> Iterator[Said]:
    ways = {
        "differs": (7.2, 0.31, 0.61, 0.44, 0.68), "differs as vectors": (7.2, 0.31, 0.003, 0.001, 0.005),
        "differs little": (5.2, 0.004, 0.003, 0.001, 0.005), "collapsed": (1.1, 0.0001, 0.0002, 0.0001, 0.0003),
        "few": (2.0, 0.3, 0.2, -math.inf, math.inf),
    }  # fmt: skip
    for case, (used, left_out, lost, at_least, at_most) in ways.items():
        n = 4 if case == "few" else 37
        collapsed = case == "collapsed"
        evidence = {
            "diversity": (used - 1) / 8.1, "effective rank": used, "redrawn adapter": 9.1, "left out by one direction": left_out,
            "lost with one direction": lost, "lost, at least": at_least, "lost, at most": at_most,
        }  # fmt: skip
        judged = "has collapsed towards one direction" if collapsed else "differs from token to token"
        verdict = Verdict(
            name="s·v_b",
            collapsed=collapsed,
            evidence=evidence,
            threshold=0.5,
            sentence=f"s·v_b, what is added, {judged}: effective rank {used:.1f} against 9.1 of the same adapter with redrawn "
            f"weights (mean of 4); one direction for all tokens leaves out {100 * left_out:.1f}\N{NO-BREAK SPACE}% of their energy "
            f"and {100 * lost:.1f}\N{NO-BREAK SPACE}% of what the modulation adds to the layer's output (median of {n} tokens).",
        )
        scalar = Verdict(
            name="scalar", collapsed=collapsed, evidence={"sd / |mean|": 0.00123 if collapsed else 0.3, "mean": 2.13}, threshold=2.0**-7,
            sentence="The scalar is the same at every token: mean 2.13, sd / |mean| 0.0012.",
        )  # fmt: skip
        cosines = drawn(5, n, 0.5)
        exact = ExactAgreement(
            formula="W_g (z_C − z)", tokens=np.arange(n), cosines=cosines, ratios=cosines, shuffled=Baseline(0.37, 0.01, 16), random_sd=0.03,
        )  # fmt: skip
        result = Directions(
            layer=15, target="gate", variant="N1", mode="local", seed=0, tokens=np.arange(1, n + 1), verdicts=(scalar, verdict),
            alignment=Unavailable(""), components=Unavailable(""), units=Unavailable(""),
            exact=Unavailable("none") if collapsed else exact,
        )  # fmt: skip
        is_sink = sinks(n + 1, 0)
        data = {
            "result": result,
            "is_sink": is_sink,
            "with_sinks": False,
            "mode": "local",
            "positions": "deployed",
        }
        yield Said("directions", case, directions(result, Basis(is_sink=is_sink)), data)


def of_orthogonality() -> Iterator[Said]:
    ways = {
        "times": (0.078, 0.09), "within": (0.0015, 0.017), "less": (0.001, 0.0001), "not told": (0.008, 0.033), "few": (0.05, 0.05),
    }  # fmt: skip
    for case, (along, top) in ways.items():
        n = 4 if case == "few" else 29
        spread = 0.3 if case == "not told" else 0.02
        is_sink = sinks(n, 0)
        result = LayerOrthogonality(
            layer=15, target="up", of="h", centred=case != "less", top=200 if case == "less" else 10, dim=576, n_reference=300,
            explained=np.array([0.5]), isotropic_edge=0.1, shares=top * (1 + drawn(3, n, 0, spread)),
            curve=np.array([0.1]), left_out=is_sink, mean_shares=along * (1 + drawn(4, n, 0, spread)), angles=np.array([30.0]),
            random_angles=(), published=0.1, published_uncentred=0.1, published_random=0.1,
        )  # fmt: skip
        basis = Basis(is_sink=is_sink, mode="propagated")
        data = {
            "result": result, "is_sink": is_sink, "with_sinks": False, "mode": "propagated", "positions": "deployed",
            "axes_from": "bundled texts",
        }  # fmt: skip
        yield Said("orthogonality", case, orthogonality(result, basis, axes_from="bundled texts"), data)


def of_attribution() -> Iterator[Said]:
    for case, scores in {
        "raises": [0, 0.1, 0.7, -0.3],
        "lowers": [0, 0.1, 0.7, -0.93],
        "none": [0.0] * 4,
    }.items():
        result = Attribution(
            quantity=Quantity(kind="scalar", token=3, layer=15), name="scalar of layer 15, gate, component 2", method="ablation",
            mode="local", positions="trained", tokens=("a", "is", "#3 b", "c"), scores=np.array(scores, float), baseline="⟨eos⟩",
            value=2.13, baseline_value=1.0, delta=math.nan, steps=0, forwards=3, seconds=0.1,
        )  # fmt: skip
        yield Said("attribution", case, attribution(result), {"result": result})


def outcome(name: str, first: tuple[str, int, float], kl: float) -> Outcome:
    top = TopTokens(
        ids=np.array([[9, 8], [first[1], 5]]),
        probabilities=np.array([[0.9, 0.1], [first[2], 0.07]]),
        glyphs=(("x", "y"), (first[0], "z")),
    )
    return Outcome(name=name, logits=np.zeros(3), top=top, nll=np.zeros(2), kl=np.array([0.5, kl]))


def of_editing() -> Iterator[Said]:
    before = outcome("before", ("␣Paris", 4, 0.341), 0.0)
    pieces = (Token("␣is", "text", 1, ""), Token("␣of", "text", 2, ""))
    afters = {
        "stays": ("␣Paris", 4, 0.618),
        "changes": ("␣Rome", 7, 0.518),
        "only rounding": ("␣Paris", 4, 0.341),
    }
    for case, after in afters.items():
        after = outcome("after", after, 3e-12 if case == "only rounding" else 0.1374)
        for n_sources in (0, 1, 3, 5):
            sources = tuple((f"␣w{i}", i + 3) for i in range(n_sources))
            layers = (15,) if n_sources == 1 else (15, 20)
            recovery = (
                Recovery(with_context="", kl_plain=1.3, kl_updated=0.4, top=[]) if n_sources == 3 else None
            )
            data = {
                "sources": sources, "layers": layers, "alpha": 0.75, "pieces": pieces, "before": before, "after": after,
                "recovery": recovery, "mode": "propagated" if n_sources == 3 else "local", "positions": "trained",
            }  # fmt: skip
            sentence = update(
                sources, layers, 0.75, pieces, before, after, recovery, mode=data["mode"], positions="trained"
            )
            yield Said("update", f"{case} {n_sources}", sentence, data)
        for operation in ("replace", "scale"):
            result = Transplant(
                donor_pieces=pieces, pieces=pieces, donor_token=1, token=0, layers=(15, 20), operation=operation, strength=2.0,
                mode="propagated", positions="deployed", npt=before, transplanted=after, base=before, donor_top=[], shares=(),
            )  # fmt: skip
            yield Said("transplant", f"{case} {operation}", transplant(result), {"result": result})


def of_strengths() -> Iterator[Said]:
    ways = {
        "a window": (
            [-0.3, 0.1, 0.4, 0.9, 1.3],
            [0.01, 0.02, 0.03, 0.2, 0.7],
            [20.1, 20.2, 20.4, 20.9, 29.0],
        ),
        "two windows": (
            [0.3, -0.1, 0.4, 0.9, 1.3],
            [0.01, 0.02, 0.03, 0.04, 0.7],
            [20.1, 20.2, 20.4, 20.9, 20.1],
        ),
        "none": ([-0.3, -0.1, 0.4, 0.9, 1.3], [0.01, 0.02, 0.3, 0.2, 0.7], [20.1, 20.2, 20.4, 20.9, 29.0]),
    }
    for case, (margin, kl, perplexity) in ways.items():
        sweep = AlphaSweep(
            alphas=np.array([0.1, 0.316, 1.0, 3.16, 10.0]), new=("␣Rome", 7), old=("␣Paris", 4), margin=np.array(margin),
            new_log_probability=np.array(margin), unrelated_kl=np.array(kl), perplexity=np.array(perplexity),
            before_perplexity=20.0, n_unrelated=3, n_neutral_tokens=1013,
        )  # fmt: skip
        yield Said("strengths", case, strengths(sweep), {"sweep": sweep})
        alike = replace(sweep, old=sweep.new)
        yield Said("strengths", f"{case}, the same token", strengths(alike), {"sweep": alike})
        alone = replace(sweep, unrelated_kl=np.full(5, np.nan), n_unrelated=0)
        yield Said("strengths", f"{case}, nothing unrelated", strengths(alone), {"sweep": alone})


def of_training() -> Iterator[Said]:
    nan = math.nan
    ways = {
        "recovers": (0.61, 0.55, 0.66, 713), "nothing": (0.01, -0.04, 0.03, 713), "worse": (-1.31, -1.52, -1.17, 713),
        "few": (0.5, nan, nan, 4), "standard": (nan, nan, nan, 713),
    }  # fmt: skip
    rows = [{"step": 1, "layer": layer, "total": 3.7} for layer in (3, 7)]
    yield of_history("not judged", [*rows, {"step": 40, "layer": 7, "total": 0.91}], 40)
    apart = [{"step": s, "layer": n, "total": n + 1 / s} for s in (1, 40) for n in (3, 7)]
    yield of_history("layers whose losses differ", apart, 40)
    for case, (share, low, high, n) in ways.items():
        judged = {
            "heldout/recovered": share,
            "heldout/recovered_low": low,
            "heldout/recovered_high": high,
            "heldout/n_tokens": n,
        }
        later = [{"step": 40, "layer": layer, "total": 0.91} | judged for layer in (3, 7)]
        old = rows[0] | judged | {"heldout/recovered": 0.123, "step": 2}
        yield of_history(case, [*rows, old, *later], 1213)


def of_held_out() -> Iterator[Said]:
    ways = {
        "recovers": drawn(1, 713, 0.6), "nothing": drawn(2, 53, 0.01, 0.4), "worse": drawn(3, 53, -2.3, 0.4),
        "few": drawn(4, 5, 0.5), "standard": np.full(53, np.nan),
    }  # fmt: skip
    for case, recovered in ways.items():
        is_sink = sinks(len(recovered), 0)
        share, low, high, _ = median_of(recovered[~is_sink])
        if not math.isfinite(low):
            low = high = math.nan
        fields = {
            "recovered": share,
            "recovered_low": low,
            "recovered_high": high,
            "n_tokens": int(sum(~is_sink)),
        }
        note = "not held out: at least 211 of 713 tokens were seen in training" if case == "recovers" else ""
        setting = (
            {"positions": "trained", "stream": "end_to_end"}
            if case == "worse"
            else {"positions": "deployed", "stream": "base"}
        )
        data = {"layer": 15, "recovered": recovered, "is_sink": is_sink, "note": note} | setting
        yield Said("held out", case, held_out(15, fields, len(recovered), note, **setting), data)


def of_history(case: str, rows: list[dict], last: int) -> Said:
    history = SimpleNamespace(rows=rows, last=SimpleNamespace(number=last, total=rows[-1]["total"]))
    setting = (
        {"positions": "trained", "stream": "in_order"}
        if case == "worse"
        else {"positions": "deployed", "stream": "base"}
    )
    return Said("training", case, training(history, **setting), {"rows": rows, "last": last} | setting)


def of_runs() -> Iterator[Said]:
    def summary(series, last, best=math.nan):
        step = None if math.isnan(best) else 1100
        return Summary(series=series, column="heldout/recovered", first=0.02, last=last, last_step=1513, best=best, best_step=step, n_values=31)  # fmt: skip

    ways = {
        "one": ([summary("a", 0.41, 0.47)], "high"),
        "no direction": ([summary("a", 0.41), summary("b", 0.3)], None),
        "high": ([summary("a", 0.41), summary("b of c", 0.62), summary("d", 0.12)], "high"),
        "low": ([summary("a", 0.41), summary("b of c", 0.62), summary("d", 0.12)], "low"),
        "alike": ([summary("a", 0.41), summary("b", 0.41)], "low"),
    }
    for case, (summaries, better) in ways.items():
        yield Said("runs", case, runs(summaries, better), {"summaries": summaries, "better": better})


def experiment_of(numbers: dict[str, list[float | None]], measure: str = "recovered") -> ExperimentResult:
    seeds = tuple(range(max(map(len, numbers.values()))))
    done = [
        ArmRun(
            arm=arm, seed=seed, state="stopped" if value is None else "finished", done=3, curves={},
            final={} if value is None else {measure: value},
        )
        for arm, values in numbers.items()
        for seed, value in zip(seeds, values, strict=False)
    ]  # fmt: skip
    return ExperimentResult(
        name="t",
        arms={arm: arm for arm in numbers},
        seeds=seeds,
        reference="base",
        steps=3,
        runs=tuple(done),
        base={},
    )


def of_experiments() -> Iterator[Said]:
    many = {f"arm {i}": [0.9 + i / 90, 0.91 + i / 90, 0.92 + i / 90] for i in range(5)}
    ways = {
        "unfinished": ({"base": [None], "a": [0.9]}, "recovered"),
        "one seed": ({"base": [0.41], "a": [0.93], "b": [0.5]}, "recovered"),
        "one seed, none better": ({"base": [0.41], "a": [0.31]}, "recovered"),
        "one seed, alone": ({"base": [0.41], "a": [None]}, "recovered"),
        "lower": ({"base": [0.41], "a": [0.13]}, "median_kl"),
        "nothing to compare": ({"base": [0.1, 0.2], "a": [None, None], "b": [0.9, None]}, "recovered"),
        "better": ({"base": [0.1, 0.12, 0.11], "a": [0.8, 0.83, 0.82]}, "recovered"),
        "worse": ({"base": [0.8, 0.82, 0.81], "a": [0.1, 0.13, 0.12], "b": [0.2, 0.99, 0.8], "c": [None] * 3}, "recovered"),
        "both": ({"base": [0.5, 0.52, 0.51], "a": [0.1, 0.13, 0.12], "b": [0.9, 0.93, 0.92]}, "recovered"),
        "many": ({"base": [0.1, 0.12, 0.11], **many}, "recovered"),
        "unclear": ({"base": [0.1, 0.9, 0.5], "a": [0.5, 0.2, 0.7]}, "recovered"),
        "perplexity": ({"base": [40.1, 41.0, 40.5], "a": [30.2, 31.0, 30.7]}, "perplexity"),
    }  # fmt: skip
    for case, (numbers, measure) in ways.items():
        result = experiment_of(numbers, measure)
        yield Said("experiment", case, experiment(result, measure), {"result": result, "measure": measure})


def all_said() -> list[Said]:
    """Every sentence on every result made by hand."""
    makers = (
        of_tokens, of_reconstruction, of_floors, of_positions, of_kl, of_directions, of_orthogonality, of_attribution, of_editing, of_strengths,
        of_training, of_held_out, of_runs, of_experiments,
    )  # fmt: skip
    return [each for maker in makers for each in maker()]

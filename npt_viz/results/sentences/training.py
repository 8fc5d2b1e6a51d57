"""Training: what the layers recover so far on held-out text, and what became of the loss."""

import math
from collections.abc import Mapping
from itertools import chain

from npt_viz.results.sentences import NOTHING, Sentence, Strong, said, states
from npt_viz.results.training import History
from npt_viz.results.words import counted, number, percent


@states("training")
def training(history: History) -> Sentence:
    """Result of the training so far."""
    last = history.last
    if last is None:
        return NOTHING
    evaluated = {row["layer"]: row for row in list(history.rows) if "heldout/recovered" in row}
    first = next(iter(history.rows))
    fell = f"the loss of the batch went from {number(first['total'])} to {number(last.total)}"
    start = f"After {counted(last.number, 'step')}"
    if not evaluated:
        return said(f"{start} {fell}; held-out text has not been looked at yet.")
    parts = chain.from_iterable((", ", *_recovered(layer, row)) for layer, row in evaluated.items())
    _, *parts = parts
    return said(f"{start} ", *parts, f"; {fell}.")


@states("held out")
def held_out(layer: int, evaluation: Mapping, n_heldout: int, note: str = "") -> Sentence:
    """What a layer recovers of all held-out text at the end, and how many of its tokens count.

    evaluation: the fields of HeldOut. note: what has to be said where the text was seen in training.
    """
    n = int(evaluation["n_tokens"])
    where = f"(median of {n:,} of {counted(n_heldout, 'held-out token')}, {counted(n_heldout - n, 'attention sink')} left out)"
    row = {f"heldout/{name}": evaluation[name] for name in ("recovered", "recovered_low", "recovered_high")}
    first, *others = _shares(layer, row, n, where)
    return said(first[0].upper() + first[1:], *others, f"{'; ' * bool(note)}{note}.")


def _recovered(layer: int, row: Mapping) -> tuple[str, ...]:
    n = int(row["heldout/n_tokens"])
    where = f"(median of {counted(n, 'held-out token')} at step {row['step']}, sinks left out)"
    return _shares(layer, row, n, where)


def _shares(layer: int, row: Mapping, n: int, where: str) -> tuple[str, ...]:
    share = row["heldout/recovered"]
    low, high = (row.get(f"heldout/recovered_{end}", math.nan) for end in ("low", "high"))
    if math.isnan(share):
        return (f"layer {layer} has nothing to recover {where}",)
    if not math.isfinite(low):
        return (
            f"{counted(n, 'held-out token')} {'is' if n == 1 else 'are'} too few to tell what layer {layer} recovers",
        )
    if high < 0:
        return (
            f"layer {layer} is ", Strong("worse than no modulation"),
            f": its squared error is {number(1 - share)} [{number(1 - high)}, {number(1 - low)}] times as large {where}",
        )  # fmt: skip
    if low <= 0:
        return (
            f"layer {layer} cannot be told from no modulation: it recovers ", Strong(percent(share)),
            f" [{percent(low)}, {percent(high)}] of what attention does {where}",
        )  # fmt: skip
    return (
        f"layer {layer} recovers ", Strong(percent(share)),
        f" [{percent(low)}, {percent(high)}] of what attention does {where}",
    )  # fmt: skip

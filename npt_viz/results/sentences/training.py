"""Training: what the layers recover so far on held-out text, and what became of the loss."""

import math
from collections.abc import Mapping
from itertools import chain

from npt_viz.question import Positions
from npt_viz.results.sentences import NOTHING, Sentence, Strong, said, states
from npt_viz.results.training import History
from npt_viz.results.words import counted, number, percent

STREAMS = {
    "base": "local",
    "in_order": "on the stream of the NPT layers below",
    "end_to_end": "on the stream of the NPT layers below",
}
"""Stream of a training -> what its layers are judged on."""


@states("training")
def training(history: History, *, positions: Positions = "deployed", stream: str = "base") -> Sentence:
    """Result of the training so far; positions, stream: of its recipe, as held-out text is judged in the same."""
    last = history.last
    if last is None:
        return NOTHING
    evaluated = {row["layer"]: row for row in list(history.rows) if "heldout/recovered" in row}
    fell = _fell(list(history.rows))
    start = f"After {counted(last.number, 'step')}"
    if not evaluated:
        return said(f"{start} {fell}; held-out text has not been looked at yet.")
    setting = f"{STREAMS[stream]}, positions as {positions}"
    parts = chain.from_iterable((", ", *_recovered(layer, row, setting)) for layer, row in evaluated.items())
    _, *parts = parts
    return said(f"{start} ", *parts, f"; {fell}.")


def _fell(rows: list[dict]) -> str:
    """Loss of the layers that the last step trained: the mean over them at their first step, and at the last one."""
    trained = {row["layer"]: row["total"] for row in rows if row["step"] == rows[-1]["step"]}
    first = {row["layer"]: row["total"] for row in reversed(rows) if row["layer"] in trained}
    others = {row["layer"] for row in rows} - set(trained)
    which = f" of layer {', '.join(map(str, sorted(trained)))}" if others else ""
    start, end = (sum(each.values()) / len(each) for each in (first, trained))
    return f"the loss of the batch{which} went from {number(start)} to {number(end)}"


@states("held out")
def held_out(
    layer: int,
    evaluation: Mapping,
    n_heldout: int,
    note: str = "",
    *,
    positions: Positions = "deployed",
    stream: str = "base",
) -> Sentence:
    """What a layer recovers of all held-out text at the end, and how many of its tokens count.

    evaluation: the fields of HeldOut. note: what has to be said where the text was seen in training.
    positions, stream: of the training's recipe.
    """
    n = int(evaluation["n_tokens"])
    where = (
        f"(median of {n:,} of {counted(n_heldout, 'held-out token')}, {counted(n_heldout - n, 'attention sink')} left out, "
        f"{STREAMS[stream]}, positions as {positions})"
    )
    row = {f"heldout/{name}": evaluation[name] for name in ("recovered", "recovered_low", "recovered_high")}
    first, *others = _shares(layer, row, n, where)
    return said(first[0].upper() + first[1:], *others, f"{'; ' * bool(note)}{note}.")


def _recovered(layer: int, row: Mapping, setting: str) -> tuple[str, ...]:
    n = int(row["heldout/n_tokens"])
    where = f"(median of {counted(n, 'held-out token')} at step {row['step']}, sinks left out, {setting})"
    return _shares(layer, row, n, where)


def _shares(layer: int, row: Mapping, n: int, where: str) -> tuple[str, ...]:
    share = row["heldout/recovered"]
    low, high = (row.get(f"heldout/recovered_{end}", math.nan) for end in ("low", "high"))
    if math.isnan(share):
        return (f"layer {layer} has nothing to recover {where}",)
    if not math.isfinite(low):
        return (
            f"{counted(n, 'held-out token')} {'is' if n == 1 else 'are'} too few to tell what layer {layer} recovers {where}",
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

"""Runs: how the columns of some logs end."""

import math
from collections.abc import Sequence
from typing import Literal

from npt_viz.results.runs import Summary
from npt_viz.results.sentences import NOTHING, Exact, Sentence, Strong, said, states
from npt_viz.results.words import counted, number


@states("runs")
def runs(summaries: Sequence[Summary], better: Literal["low", "high"] | None) -> Sentence:
    """Which curve of one column ends best; each is one run, so nothing says what chance does.

    better: which end of the column is better, where either is.
    """
    if not summaries:
        return NOTHING
    if len(summaries) == 1 or better is None:
        return _one(summaries[0])
    ranked = sorted(summaries, key=lambda each: each.last, reverse=better == "high")
    best, worst = ranked[0], ranked[-1]
    if best.last == worst.last:
        return said(
            f"All {len(summaries)} curves end alike in ", Exact(best.column), f": {number(best.last)}."
        )
    return said(
        f"Of {len(summaries)} curves ", Exact(best.series), " ends best in ", Exact(best.column), ": ",
        Strong(number(best.last)), f" at step {best.last_step:,}; ", Exact(worst.series), " ends worst, ",
        f"{number(worst.last)} at step {worst.last_step:,} (last values, one run each: chance between seeds is not known).",
    )  # fmt: skip


def _one(only: Summary) -> Sentence:
    best = "" if math.isnan(only.best) else f", best {number(only.best)} at step {only.best_step:,}"
    return said(
        Exact(only.series), ": ", Exact(only.column), f" went from {number(only.first)} to ", Strong(number(only.last)),
        f" at step {only.last_step:,}{best} ({counted(only.n_values, 'value')}).",
    )  # fmt: skip

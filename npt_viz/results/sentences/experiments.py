"""Sentences that state the result of an experiment."""

import math

from npt_viz.results.experiments import MEASURES, Comparison, ExperimentResult
from npt_viz.results.sentences import Quoted, Sentence, said, states


@states("experiment")
def experiment(result: ExperimentResult, measure: str = "recovered") -> Sentence:
    """Which arms differ from the reference by more than seeds do."""
    comparisons = result.comparisons(measure)
    reference = next(each for each in comparisons if each.verdict == "reference")
    if math.isnan(reference.mean):
        return said(Quoted(f"The reference {result.reference!r} has not finished yet; {_done(result)}."))
    label = MEASURES[measure].label[0].upper() + MEASURES[measure].label[1:]
    start = f"{label}: the reference {result.reference!r} has {reference.mean:.3g}"
    seeds = len(reference.values)
    if seeds < 2:
        rest = _closest(comparisons, reference, measure)
        return said(Quoted(f"{start}; {rest}. With one seed nobody can tell a difference from chance."))
    better = [each for each in comparisons if each.verdict == "better"]
    worse = [each for each in comparisons if each.verdict == "worse"]
    unclear = [each for each in comparisons if each.verdict in ("unclear", "the same")]
    unmeasured = [each for each in comparisons if each.verdict in ("one seed", "no number")]
    if len(unmeasured) == len(comparisons) - 1:
        return said(
            Quoted(
                f"{start} ± {reference.spread:.2g} over {seeds} seeds; no other arm has enough finished runs to compare."
            )
        )
    parts = [_named("better", better), _named("worse", worse)]
    differences = "; ".join(part for part in parts if part) or "no arm can be told from it by its seeds"
    rest = f"; {len(unclear)} cannot be told from it" if unclear and (better or worse) else ""
    rest += f"; {len(unmeasured)} with too few finished runs to compare" if unmeasured else ""
    return said(Quoted(f"{start} ± {reference.spread:.2g} over {seeds} seeds; {differences}{rest}."))


def _named(word: str, comparisons: list[Comparison], most: int = 3) -> str:
    if not comparisons:
        return ""
    ordered = sorted(comparisons, key=lambda each: -abs(each.difference))
    names = ", ".join(f"{each.arm!r} ({each.difference:+.3g})" for each in ordered[:most])
    more = f" and {len(comparisons) - most} more" if len(comparisons) > most else ""
    return f"{word}: {names}{more}"


def _closest(comparisons: tuple[Comparison, ...], reference: Comparison, measure: str) -> str:
    """The best other arm, whichever side of the reference it lies on."""
    others = [each for each in comparisons if each.verdict != "reference" and math.isfinite(each.mean)]
    sign = 1 if MEASURES[measure].better == "higher" else -1
    best = max(others, key=lambda each: sign * each.mean, default=None)
    if best is None:
        return "no other arm has a number yet"
    where = (
        "the best number is"
        if sign * best.mean > sign * reference.mean
        else "no other arm has a better number; next is"
    )
    return f"{where} {best.arm!r} with {best.mean:.3g}"


def _done(result: ExperimentResult) -> str:
    return f"{result.n_finished} of {result.n_runs} runs are finished"

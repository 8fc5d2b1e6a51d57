"""Compare: whether a number changes from A to B, which tokens stand out, and whether the predictions change."""

import numpy as np

from npt_viz.results.comparison import COMPARED, Comparison, Difference, check_metric
from npt_viz.results.estimate import Estimate, median_of
from npt_viz.results.inspection import METRICS
from npt_viz.results.sentences import NOTHING, Exact, Sentence, Strong, is_known, said, states
from npt_viz.results.words import counted, interval, number


@states("comparison")
def comparison(found: Comparison, metric: str, *, with_sinks: bool = False) -> Sentence:
    """Change of one number from A to B at the typical token, the tokens that stand out, and the predictions."""
    check_metric(metric)
    if not found.same.any():
        return said(
            "The prompts of A and B have no token in common, so no token can be compared "
            f"(A has {counted(len(found.a.pieces), 'token')}, B {len(found.b.pieces):,})."
        )
    return (
        _typical(found, metric, with_sinks) + _standing_out(found, metric, with_sinks) + _predictions(found)
    )


def _typical(found: Comparison, metric: str, with_sinks: bool) -> Sentence:
    counts, columns = found.counts(with_sinks=with_sinks), found.columns(metric)
    change = median_of(columns.difference[counts])
    what, where = _what(found, metric), _basis(found, change.n, with_sinks)
    if change.n == 0:
        return said(f"A or B has no {what}, so it cannot be compared {where}.")
    if not is_known(change):
        return said(
            f"{counted(change.n, 'aligned token')} {'is' if change.n == 1 else 'are'} too few to tell whether the {what} "
            f"changes from A to B; the median of B − A is {number(change.value)} {where}."
        )
    finite = counts & np.isfinite(columns.difference)
    rounding = found.rounding(metric, with_sinks=with_sinks)
    if (np.abs(columns.difference[finite]) <= rounding).all():
        return said(f"From A to B the {what} ", Strong("stays the same"), f" at every aligned token {where}.")
    medians = f"medians {number(np.median(columns.a[finite]))} and {number(np.median(columns.b[finite]))}"
    if change.low <= rounding and change.high >= -rounding:
        return said(
            f"It cannot be told whether the {what} changes from A to B: the median of B − A is ",
            Strong(number(change.value)), f" {interval(change, number)}, {medians} {where}.",
        )  # fmt: skip
    verb, change = ("rises", change) if change.low > rounding else ("falls", _negative(change))
    return said(
        f"From A to B the {what} {verb} by ", Strong(number(change.value)),
        f" {interval(change, number)} at the median token, {medians} {where}.",
    )  # fmt: skip


def _negative(change: Estimate) -> Estimate:
    return Estimate(-change.value, -change.high, -change.low, change.n)


def _what(found: Comparison, metric: str) -> str:
    """share recovered of layer 15; of layer 10 in A and 15 in B; KL(base ‖ NPT)"""
    label, (in_a, in_b) = COMPARED[metric].label, found.layers
    if metric not in METRICS:
        return label
    return f"{label} of layer {in_a}" + (f" in A and {in_b} in B" if in_a != in_b else "")


def _basis(found: Comparison, n: int, with_sinks: bool) -> str:
    """(A local, positions as deployed; B propagated, …; 18 aligned tokens, 2 only in A, 3 only in B, 1 sink left out)"""
    a, b = found.sides
    only = [pair.kind for pair in found.pairs]
    unaligned = "".join(
        f", {n_only:,} only in {name}"
        for name, n_only in (("A", only.count("deleted")), ("B", only.count("inserted")))
        if n_only
    )
    n_sinks = int((found.same & found.is_sink).sum())
    fate = "counted" if found.counts(with_sinks=with_sinks)[found.is_sink].any() else "left out"
    sinks = f"{counted(n_sinks, 'sink')} {fate}" if n_sinks else "no attention sink"
    how = [f"{side.mode}, positions as {side.positions}" for side in (a, b)]
    asked = f"A and B {how[0]}" if how[0] == how[1] else f"A {how[0]}; B {how[1]}"
    return f"({asked}; {counted(n, 'aligned token')}{unaligned}, {sinks}; 95 % intervals)"


def _standing_out(found: Comparison, metric: str, with_sinks: bool) -> Sentence:
    spread = found.spread(metric, with_sinks=with_sinks)
    if not np.isfinite(spread.size):
        return NOTHING
    out = [each for each in found.largest(metric, with_sinks=with_sinks) if each.stands_out]
    why = "what rounding alone can do" if spread.is_rounding else "three robust standard deviations"
    what = f"{number(spread.size)}, {why}, from the median difference"
    if not out:
        return said(f"No token lies further than {what}.")
    return said(
        Strong(f"{len(out):,}"), f" of {counted(spread.n, 'token')} lie{'s' * (len(out) == 1)} further than {what}; "
        "the largest is at ", *_token(out[0]), f" (B − A {number(out[0].difference)}).",
    )  # fmt: skip


def _token(each: Difference) -> tuple[str, ...]:
    same = each.pair.a == each.pair.b
    return Exact(each.token.glyph), f" #{each.pair.a}" + ("" if same else f" in A, #{each.pair.b} in B")


def _predictions(found: Comparison) -> Sentence:
    other = found.other_choices
    if other is None:
        return NOTHING
    n, in_all = int(other.sum()), counted(int(found.same.sum()), "aligned token")
    if n == 0:
        return said(f"The NPT models' most probable next token stays the same after all of {in_all}.")
    return said("The NPT models' most probable next token is another one after ", Strong(f"{n:,}"), f" of {in_all}.")  # fmt: skip

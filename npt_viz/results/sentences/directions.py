"""Directions: whether what is added differs from token to token, and how it agrees with the exact patch."""

from collections.abc import Mapping
from math import isfinite

from npt_viz.results.directions import MAX_LOST, MIN_REFERENCE, Directions, Unavailable
from npt_viz.results.estimate import median_of
from npt_viz.results.sentences import NOTHING, Basis, Quoted, Sentence, Strong, is_known, said, states
from npt_viz.results.words import counted, tenths


@states("directions")
def directions(result: Directions, basis: Basis) -> Sentence:
    """Whether the directions differ between tokens, and the exact change they are held against."""
    what = f"Layer {result.layer}'s {result.target} modulation"
    where = basis.words(len(result.tokens), "over")
    fallen = [verdict for verdict in result.verdicts if verdict.collapsed]
    if fallen:
        return said(
            f"{what} ",
            Strong("has collapsed"),
            f" {where}: ",
            Quoted(" ".join(verdict.sentence for verdict in fallen)),
        )
    verdict = next(verdict for verdict in result.verdicts if verdict.name == "s·v_b")
    return _differs(what, where, verdict.evidence) + _agrees(result)


def _differs(what: str, where: str, evidence: Mapping[str, float]) -> Sentence:
    used, redrawn = evidence["effective rank"], evidence["redrawn adapter"]
    left_out, lost = evidence["left out by one direction"], evidence["lost with one direction"]
    tail = (
        f"s·v_b uses {used:.1f} directions, {redrawn:.1f} if its weights were redrawn at random; one direction for all tokens "
        f"would leave out {tenths(left_out)} of its energy and {tenths(lost)} of what it adds {where}."
    )
    if redrawn < MIN_REFERENCE or not isfinite(evidence["lost, at least"]):
        return said(
            f"Whether {what[0].lower() + what[1:]} differs from token to token cannot be told: {tail}"
        )
    if left_out < MAX_LOST and evidence["lost, at most"] < MAX_LOST:
        return said(f"{what} ", Strong("differs little from token to token"), f": {tail}")
    return said(f"{what} ", Strong("differs from token to token"), f": {tail}")


def _agrees(result: Directions) -> Sentence:
    exact = result.exact
    if isinstance(exact, Unavailable):
        return NOTHING
    along = median_of(exact.cosines)
    if not is_known(along):
        return said(
            f"{counted(along.n, 'token')} are too few to tell how far it points along the exact {exact.formula}."
        )
    return said(
        f"Its cosine with the exact {exact.formula} is ", Strong(f"{along.value:.2f}"),
        f" [{along.low:.2f}, {along.high:.2f}]; with the ΔW of other tokens {exact.shuffled.mean:.2f} (medians).",
    )  # fmt: skip

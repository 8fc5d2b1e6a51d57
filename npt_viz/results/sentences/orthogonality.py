"""Orthogonality: how much of v_a lies along what all tokens share, the mean direction first."""

from npt_viz.results.estimate import Estimate, median_of
from npt_viz.results.orthogonality import LayerOrthogonality, random_share
from npt_viz.results.sentences import Basis, Sentence, Strong, is_known, said, states
from npt_viz.results.words import interval, tenths


@states("orthogonality")
def orthogonality(result: LayerOrthogonality, basis: Basis, *, axes_from: str = "this prompt") -> Sentence:
    """Shares of v_a's energy along the mean and in the common directions, each against a random vector's."""
    along, top = (median_of(basis.of(shares)) for shares in (result.mean_shares, result.shares))
    centred = "centred" if result.centred else "not centred"
    return said(
        f"Layer {result.layer}'s v_a ({result.target}) has ", Strong(tenths(along.value)),
        f"{_interval(along)} of its energy along the mean of {result.of} alone, {_against(along, 1, result.dim)}; in the top "
        f"{result.top} of {result.dim} directions of {result.of} ({centred}, axes of {axes_from}) it has ",
        Strong(tenths(top.value)),
        f"{_interval(top)}, {_against(top, result.top, result.dim)} {basis.words(top.n)}.",
    )  # fmt: skip


def _interval(estimate: Estimate) -> str:
    return f" {interval(estimate, tenths)}" if is_known(estimate) else ""


def _against(estimate: Estimate, q: int, d: int) -> str:
    """Against a random vector, whose share lies within 2 standard deviations of q/d."""
    mean, sd, _ = random_share(q, d)
    random = f"a random vector's {tenths(mean)} ± {tenths(2 * sd)}"
    if not is_known(estimate):
        return f"too few tokens to tell from {random}"
    if estimate.low > mean + 2 * sd:
        return f"{estimate.value / mean:.1f} times {random}"
    if estimate.high < mean - 2 * sd:
        return f"less than {random}"
    if mean - 2 * sd <= estimate.low and estimate.high <= mean + 2 * sd:
        return f"within {random}"
    return f"not told from {random}"

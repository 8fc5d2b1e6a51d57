"""Whether v_a points into the directions that all tokens share."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npt_viz.results.directions import Baseline, PromptTokens, Unavailable
from npt_viz.results.shown import Shown


def random_share(q: int, d: int) -> Baseline:
    """Share of a random vector's energy in q of d dimensions: Beta(q/2, (d−q)/2), in closed form."""
    return Baseline(q / d, float(np.sqrt(2 * q * (d - q) / (d * d * (d + 2)))), 0)


@dataclass(frozen=True, kw_only=True)
class LayerOrthogonality:
    """v_a of one target of one layer against the principal axes of what the layer sees."""

    layer: int
    target: str
    of: str
    """Whose principal axes: h, z or m."""
    centred: bool
    top: int
    """q, how many axes count as common"""
    dim: int
    """d, dimensions of v_a and of the axes"""
    n_reference: int
    """Tokens that the axes are from"""
    explained: np.ndarray
    """(axis,) share of the variance (of the energy, if not centred) along the first axes, descending"""
    isotropic_edge: float
    """The largest share that an axis of as many vectors without any structure has: (1 + √(d/n))² / d"""
    shares: np.ndarray
    """(token,) share of v_a's energy in the top q axes; components weighted with their ‖ΔW_j‖²"""
    curve: np.ndarray
    """(axis,) mean over the tokens that count of the share in the first 1, 2, … axes"""
    left_out: np.ndarray
    """(token,) bool: sinks, in no mean"""
    mean_shares: np.ndarray
    """(token,) share of v_a's energy along the mean of the reference vectors, the one direction that centring removes; a
    random vector has 1 / d"""
    angles: np.ndarray
    """(m,) principal angles in degrees, ascending, between the top q axes and the m ≤ q main directions of v_a"""
    random_angles: tuple[Baseline, ...]
    """The same for m random directions"""
    published: float
    """mean((v_a · V)²) over tokens, components and the top q axes, centred: the published loss; depends on the gauge"""
    published_uncentred: float
    published_random: float
    """mean ‖v_a‖² / d: what random directions of the same norms give"""
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Mean over the tokens that count."""
        return float(np.nanmean(self.shares[~self.left_out]))

    @property
    def mean_share(self) -> float:
        """Along the mean of the reference vectors: mean over the tokens that count."""
        return float(np.nanmean(self.mean_shares[~self.left_out]))

    @property
    def random(self) -> Baseline:
        return random_share(self.top, self.dim)

    @property
    def times_random(self) -> float:
        return self.share / self.random.mean


@dataclass(frozen=True, kw_only=True)
class Orthogonality(Shown):
    """The layers of one inspected prompt."""

    layers: Mapping[int, LayerOrthogonality | Unavailable]
    from_prompt: bool
    """Whether the axes are those of the prompt itself; otherwise of a reference text."""
    seed: int
    prompt: PromptTokens | None = None
    """The prompt's tokens, for whoever shows the result by itself."""

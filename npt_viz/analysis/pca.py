"""Principal axes by exact eigendecomposition, and how many directions a set of vectors uses."""

from typing import NamedTuple

import torch

from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Tensor

NOISE = 1e-10
"""Variance, relative to the mean square of the vectors, below which an axis is the rounding of float32."""


class PrincipalAxes(NamedTuple):
    """An orthonormal basis ordered by variance; float64, on the CPU."""

    axes: Float[Tensor, "axis dim"]
    """Unit rows; the entry of largest size is positive, so that the sign is the same on every machine."""
    variances: Float[Tensor, "axis"]
    """Mean squared coordinate along each axis, descending."""
    total: float
    """Sum of all variances."""
    mean: Float[Tensor, "dim"]
    """What was subtracted; zeros where the axes are not centred."""

    @property
    def explained(self) -> Float[Tensor, "axis"]:
        """Share of the total along each axis."""
        return self.variances / self.total


def principal_axes(
    vectors: Float[Tensor, "token dim"], *, centred: bool = True, at_most: int | None = None
) -> PrincipalAxes:
    """All axes along which the vectors differ from their mean (from zero, if not centred), at most `at_most`.

    Exact: eigh of the covariance, or of the token-by-token Gram matrix where there are fewer tokens than dimensions
    (same eigenvalues; with G u = n λ u the axis is X^T u / sqrt(n λ)).
    Raises NptVizError where all vectors are equal (zero, if not centred).
    """
    x = _wide(vectors)
    n_tokens, dim = x.shape
    mean = x.mean(0) if centred else x.new_zeros(dim)
    size = x.square().sum().item() / n_tokens
    x = x - mean
    narrow = n_tokens < dim
    values, eigenvectors = torch.linalg.eigh((x @ x.T if narrow else x.T @ x) / n_tokens)
    values, eigenvectors = values.flip(0), eigenvectors.flip(1)
    n_axes = int((values > NOISE * size).sum())
    if n_axes == 0:
        which = "equal" if centred and size > 0 else "zero"
        raise NptVizError(
            f"all {n_tokens} vectors are {which}, so they have no principal axis; look at their norms instead"
        )
    n_axes = min(n_axes, at_most or n_axes)
    axes = eigenvectors[:, :n_axes].T
    if narrow:
        axes = (axes @ x) / (n_tokens * values[:n_axes, None]).sqrt()
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return PrincipalAxes(
        (axes * largest.sign()).cpu(), values[:n_axes].cpu(), x.square().sum().item() / n_tokens, mean.cpu()
    )


def singular_values(vectors: Float[Tensor, "token dim"]) -> Float[Tensor, "axis"]:
    """Of the matrix that has the vectors as rows, descending; exact to about 1e-8 of the largest."""
    x = _wide(vectors)
    gram = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0).cpu()


def effective_rank(singular: Float[Tensor, "axis"]) -> float:
    """exp(−Σ p ln p) with p = σ / Σσ (Roy & Vetterli 2007): n for n equal singular values, 1 for a single one."""
    p = singular / singular.sum()
    return torch.special.entr(p).sum().exp().item()


def participation_ratio(singular: Float[Tensor, "axis"]) -> float:
    """(Σσ²)² / Σσ⁴: how many directions share the energy. Small directions count less than in the effective rank."""
    energy = singular.square()
    return (energy.sum().square() / energy.square().sum()).item()


def _wide(vectors: Tensor) -> Tensor:
    """float64 where the vectors are, or on the CPU where their device has no float64."""
    vectors = vectors.detach()
    return (vectors.cpu() if vectors.device.type == "mps" else vectors).double()

"""Losses on what the modulated MLP writes (ŷ). Published and corrected forms: docs/mathematics.md §10."""

import torch

from npt_viz.shapes import Float, Tensor


def direct(
    output: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
) -> Float[Tensor, ""]:
    """Mean over tokens of ‖ŷ − target‖² / ‖MLP(z) − target‖²: 1 is no modulation, 0 is perfect.

    Every token counts the same, whatever its size: a plain mean square is dominated by a few outlier tokens.

    unmodulated: MLP(z), or 0 where the attention path is standard (see Student.baseline).
    """
    return ((output - target).square().sum(-1) / _needed(unmodulated, target)).mean()


def direct_robust(
    output: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
) -> Float[Tensor, ""]:
    """Mean over tokens of log(1 + L) with L the direct loss of the token: Cauchy's robust loss.

    Like `direct` where the modulation helps (L ≤ 1). A token on which it is far worse than none, as an attention
    sink can be, pulls with 1/L of its strength instead of drowning the others.
    """
    return torch.log1p((output - target).square().sum(-1) / _needed(unmodulated, target)).mean()


def direct_as_written(
    output: Float[Tensor, "token model"], target: Float[Tensor, "token model"]
) -> Float[Tensor, ""]:
    """MSE(ŷ, target) / RMS(target), the RMS over all tokens: still grows with the size of the target."""
    return (output - target).square().mean() / target.square().mean().sqrt()


def decomposed(
    output: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
    attention: Float[Tensor, "token model"],
    *,
    along: float = 0.5,
    across: float = 0.5,
) -> Float[Tensor, ""]:
    """along · E_∥ + across · E_⊥: the error e = ŷ − target split along a and orthogonal to it.

    E_∥ = mean(‖e_∥‖² / ‖n‖²) / mean(‖n_∥‖² / ‖n‖²) with n = MLP(z) − target, and E_⊥ likewise, so each part is
    1 without modulation and 0 when perfect, however few of the d_model dimensions it has.
    """
    direction = torch.nn.functional.normalize(attention, dim=-1)
    scale = _needed(unmodulated, target)
    shares = []
    for vector in (output - target, unmodulated - target):
        parallel = (vector * direction).sum(-1).square()
        shares.append(((parallel / scale).mean(), ((vector.square().sum(-1) - parallel) / scale).mean()))
    (error_along, error_across), (needed_along, needed_across) = shares
    tiny = torch.finfo(scale.dtype).tiny
    return along * error_along / needed_along.clamp_min(
        tiny
    ) + across * error_across / needed_across.clamp_min(tiny)


def decomposed_as_written(
    output: Float[Tensor, "token model"],
    attention: Float[Tensor, "token model"],
    mlp_with_attention: Float[Tensor, "token model"],
) -> Float[Tensor, ""]:
    """0.5 MSE(ŷ[…, :d], a) + 0.5 MSE(ŷ − ŷ[…, :d], MLP(z_C)) with d = d_model.

    The slice is all of ŷ, so the second part is a constant without a gradient: only ŷ → a is trained.
    """
    part = output[..., : attention.shape[-1]]
    rest = output - part
    return 0.5 * (part - attention).square().mean() + 0.5 * (rest - mlp_with_attention).square().mean()


def _needed(unmodulated: Tensor, target: Tensor) -> Float[Tensor, "token"]:
    """‖MLP(z) − target‖²: the squared error without modulation."""
    squares = (unmodulated - target).square().sum(-1)
    return squares.clamp_min(torch.finfo(squares.dtype).tiny)

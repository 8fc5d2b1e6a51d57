"""Losses on v_a, v_b and the scalar. Published and corrected forms: docs/mathematics.md §10.

With several components a loss is the mean over them, except where it looks at what they do together: `strength`
takes the sum of their contributions and `update_norm` the norm of their summed weight change.
"""

import torch

from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Tensor
from npt_viz.training.capturing import PRINCIPAL_DIRECTIONS
from npt_viz.training.factored import Vectors

VARIANCE_FLOOR = 0.1
"""Guidance pushes the variance of the scalar up to here and no further; a working gate has about 0.09."""


def attention_encoding(v_a: Vectors, attention: Float[Tensor, "token model"]) -> Float[Tensor, ""]:
    """MSE(v_a, a) / RMS(a) + 0.5 (1 − cos(v_a, a)).

    Fixes a gauge, not a function: (c v_a, v_b / c) is the same update, and only one c brings v_a near a.
    """
    square = v_a.squared_norm() - 2 * v_a.dot(attention) + attention.square().sum(-1, keepdim=True)
    rms = attention.square().mean().sqrt()
    return square.mean() / v_a.dim / rms + 0.5 * (1 - v_a.cosine(attention).mean())


def regularisation(v_a: Vectors, v_b: Vectors) -> Float[Tensor, ""]:
    """mean v_a² + mean v_b². Gauge dependent: it prefers v_a and v_b of equal mean square to the same ΔW."""
    return v_a.squared_norm().mean() / v_a.dim + v_b.squared_norm().mean() / v_b.dim


def update_norm(v_a: Vectors, v_b: Vectors) -> Float[Tensor, ""]:
    """Mean over tokens of ‖ΔW‖_F² = Σ_ij (v_a,i·v_a,j)(v_b,i·v_b,j): ‖v_a‖²‖v_b‖² for one component. Gauge free."""
    return (v_a.overlaps() * v_b.overlaps()).sum((-2, -1)).mean()


def change_norm(change: Float[Tensor, "token out"]) -> Float[Tensor, ""]:
    """Mean over tokens of Σ δ² over the units, δ the change of a projection's output before its nonlinearity.

    The Frobenius regulariser of adapters that change no weight: a bias has no ‖ΔW‖.
    """
    return change.square().sum(-1).mean()


def strength(
    change: Float[Tensor, "token out"], attention_through: Float[Tensor, "token out"]
) -> Float[Tensor, ""]:
    """MSE(s·v_b, W a): the change of a projection's output against the projection of the attention output.

    change: Σ_j s_j v_b,j. attention_through: W_g a for the gate, W_u a for up, a itself for down.
    The exact change is W (z_C − z), which differs from W a by the norm layer.
    """
    return (change - attention_through).square().mean()


def guidance(
    v_a: Vectors,
    mlp_input: Float[Tensor, "token model"],
    attention: Float[Tensor, "token model"],
    *,
    floor: float = VARIANCE_FLOOR,
) -> Float[Tensor, ""]:
    """MSE(sigmoid(s), sigmoid(‖a‖/‖z‖)) + 0.1 max(0, floor − Var_t(s)) with s = v_a·z, the scalar itself."""
    fit, variance = _guided(v_a, mlp_input, attention)
    return fit + 0.1 * (floor - variance).clamp_min(0).mean()


def guidance_as_written(
    v_a: Vectors, hidden: Float[Tensor, "token model"], attention: Float[Tensor, "token model"]
) -> Float[Tensor, ""]:
    """MSE(sigmoid(v_a·h), sigmoid(‖a‖/‖h‖)) − 0.1 Var_t(v_a·h).

    Unbounded below: a larger v_a always pays. And v_a·h is not the scalar the layer uses, which is v_a·z.
    """
    fit, variance = _guided(v_a, hidden, attention)
    return fit - 0.1 * variance.mean()


def _guided(v_a, x, attention) -> tuple[Float[Tensor, ""], Float[Tensor, "component"]]:
    scalar = v_a.dot(x)
    importance = attention.norm(dim=-1, keepdim=True) / x.norm(dim=-1, keepdim=True)
    fit = (scalar.sigmoid() - importance.sigmoid()).square().mean()
    return fit, scalar.var(dim=0)


def bottleneck(
    v_a: Vectors,
    hidden: Float[Tensor, "token model"],
    attention: Float[Tensor, "token model"],
    *,
    beta: float = 0.01,
) -> Float[Tensor, ""]:
    """β |cos(v_a, h)| − |cos(v_a, a)|: v_a should say much of the attention output and little of the stream."""
    return beta * v_a.cosine(hidden).abs().mean() - v_a.cosine(attention).abs().mean()


def consistency(v_b: Vectors, attention_through: Float[Tensor, "token out"]) -> Float[Tensor, ""]:
    """MSE(v_b, mean_t v_b) + 1 − cos(v_b, W a), the mean over the tokens of the batch.

    attention_through: as in `strength`.
    """
    spread = v_b.centred().squared_norm().mean() / v_b.dim
    return spread + 1 - v_b.cosine(attention_through).mean()


def orthogonality(v_a: Vectors, directions: Float[Tensor, "model q"]) -> Float[Tensor, ""]:
    """mean((v_a @ V)²), V the leading principal directions of h over the training text, not centred."""
    return v_a.projected(directions).square().mean()


def orthogonality_as_written(v_a: Vectors, hidden: Float[Tensor, "token model"]) -> Float[Tensor, ""]:
    """mean((v_a @ V.T)²) with V = svd_lowrank(h, q=10), which is (d_model, 10): no shape fits unless d_model is 10."""
    q = PRINCIPAL_DIRECTIONS
    if v_a.dim != q:
        raise NptVizError(
            f"loss orthogonality as written cannot run: svd_lowrank returns V as ({v_a.dim}, {q}), and v_a of "
            f"width {v_a.dim} times V.T of ({q}, {v_a.dim}) has no product; choose its corrected form, v_a @ V"
        )
    return v_a.projected(torch.svd_lowrank(hidden, q=q)[2].T).square().mean()

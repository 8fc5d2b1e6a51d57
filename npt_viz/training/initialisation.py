"""Initial weights of an adapter, from the attention output that it will read."""

import torch

from npt_viz.adapter import Additive, LayerAdapter, LowRankTanh, RankOneSum
from npt_viz.shapes import Float, Tensor

SCALAR_STD = 0.3
"""Spread of the scalars at the start: small, but with a gradient for W_b_up."""

SOFTENING = 0.3
"""Share of the mean variance that is added to each direction's own: weak directions stay weak (docs/mathematics.md §11)."""

OFF_LOGIT = {"one_plus_sigmoid": -4.0, "half_sigmoid": 4.0, "one_plus_tanh": 0.0}
"""Factor of S1 -> the x = B_mult(A a) at which it is nearly 1 (1.018, 0.991, exactly 1) and still has a gradient."""


def constant_direction(attention: Float[Tensor, "token model"]) -> Float[Tensor, "model"]:
    """w with a·w ≈ 1 at every token: the least-squares fit of a constant, C⁻¹ mean(a) with C = mean aaᵀ + ridge.

    S1 has no bias, and two of its factors are far from 1 where x = 0 (1.5 and 0.75).
    """
    a = attention.double()
    moment = a.T @ a / len(a)
    ridge = 1e-3 * moment.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(moment + ridge * torch.eye(len(moment)).to(moment), a.mean(0)).to(attention)


@torch.no_grad()
def initialise_from_attention(
    adapter: LayerAdapter,
    attention: Float[Tensor, "token model"],
    mlp_input: Float[Tensor, "sample model"],
    intermediate: Float[Tensor, "sample ffn"],
    *,
    seed: int,
) -> None:
    """Set the adapter so that it changes nothing yet and every strong direction of `a` reaches it at the same size.

    W_down: the top right-singular vectors of a, each divided by √(σ² + SOFTENING · mean σ²), σ its spread, so that the
    bottleneck p = a W_down has at most unit variance, and few tokens make it large along the weak ones. W_b_up = 0.
    W_a_up: random, such that the scalars spread by SCALAR_STD
    (docs/mathematics.md §11; with every factor random, or plain MSE, the same training stalls).
    """
    generator = torch.Generator().manual_seed(seed)
    # Rows of unit length: a few tokens with a huge attention output would otherwise take every direction.
    rows = attention / attention.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    _, vectors = torch.linalg.eigh((rows.T @ rows).double())
    vectors = vectors.flip(-1).to(attention)
    spread = (attention @ vectors).square().median(dim=0).values.clamp_min(1e-12).sqrt() / 0.6745
    # Weak directions have heavy tails: divided by their own spread, single tokens would be 20 times the rest.
    basis = vectors / (spread.square() + SOFTENING * spread.square().mean()).sqrt()
    for target, modulation in adapter.learned.items():
        x = intermediate if target == "down" else mlp_input
        match modulation:
            case RankOneSum():
                k, _, r = modulation.W_down.shape
                for j in range(k):
                    modulation.W_down[j] = basis[:, :r]
                modulation.W_b_up.zero_()
                bottleneck = (attention @ basis[:, :r]).square().sum(-1).median().sqrt()
                size = x.square().sum(-1).median().sqrt() * bottleneck
                noise = torch.randn(modulation.W_a_up.shape, generator=generator).to(modulation.W_a_up)
                modulation.W_a_up.copy_(noise * SCALAR_STD / size)
            case Additive():
                modulation.W_down.copy_(basis[:, : modulation.rank])
                for up in (modulation.W_add, modulation.W_mult):
                    if up is not None:
                        up.zero_()
                logit = OFF_LOGIT.get(modulation.factor or "")
                if modulation.W_mult is not None and logit:
                    modulation.W_down[:, 0] = constant_direction(attention)
                    modulation.W_mult[0] = logit
            case LowRankTanh():
                modulation.A.copy_(basis[:, : modulation.rank])
                modulation.B.zero_()

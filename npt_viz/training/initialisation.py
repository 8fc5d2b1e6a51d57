"""Initial weights of an adapter, from the attention output that it will read."""

import torch

from npt_viz.adapter import Additive, LayerAdapter, LowRankTanh, RankOneSum
from npt_viz.shapes import Float, Tensor

SCALAR_STD = 0.3
"""Spread of the scalars at the start: small, but with a gradient for W_b_up."""


@torch.no_grad()
def initialise_from_attention(
    adapter: LayerAdapter,
    attention: Float[Tensor, "token model"],
    mlp_input: Float[Tensor, "sample model"],
    intermediate: Float[Tensor, "sample ffn"],
    *,
    seed: int,
) -> None:
    """Set the adapter so that it changes nothing yet and every direction of `a` reaches it at the same size.

    W_down: the top right-singular vectors of a, each divided by its singular scale, so that the bottleneck
    p = a W_down has unit variance. W_b_up = 0. W_a_up: random, such that the scalars spread by SCALAR_STD
    (docs/mathematics.md §11; with every factor random, or plain MSE, the same training stalls).
    """
    generator = torch.Generator().manual_seed(seed)
    # Rows of unit length: a few tokens with a huge attention output would otherwise take every direction.
    rows = attention / attention.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    _, vectors = torch.linalg.eigh((rows.T @ rows).double())
    vectors = vectors.flip(-1).to(attention)
    spread = (attention @ vectors).square().median(dim=0).values.clamp_min(1e-12).sqrt() / 0.6745
    basis = vectors / spread
    for target, modulation in adapter.learned.items():
        x = intermediate if target == "down" else mlp_input
        match modulation:
            case RankOneSum():
                k, _, r = modulation.W_down.shape
                for j in range(k):
                    modulation.W_down[j] = basis[:, :r]
                modulation.W_b_up.zero_()
                size = x.square().sum(-1).median().sqrt() * r**0.5
                noise = torch.randn(modulation.W_a_up.shape, generator=generator).to(modulation.W_a_up)
                modulation.W_a_up.copy_(noise * SCALAR_STD / size)
            case Additive():
                modulation.W_down.copy_(basis[:, : modulation.rank])
                modulation.W_add.zero_()
                if modulation.W_mult is not None:
                    modulation.W_mult.zero_()
            case LowRankTanh():
                modulation.A.copy_(basis[:, : modulation.rank])
                modulation.B.zero_()

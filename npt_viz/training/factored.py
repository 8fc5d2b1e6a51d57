"""The vectors v_a and v_b of a whole batch, in factored form: never (token, component, d_ffn)."""

from dataclasses import dataclass

import torch

from npt_viz.adapter import Additive, LowRank, Modulation, RankOneSum
from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Tensor

EPSILON = 1e-8
"""Below this a vector has no direction; the value of torch.cosine_similarity."""


@dataclass(frozen=True)
class Vectors:
    """v_j = p_j U_j for every token and component j, where U_j is shared by all tokens.

    Everything a loss asks of v comes from p and from small products with U: ‖v_j‖² = p_j (U_j U_jᵀ) p_jᵀ,
    v_j·x = p_j·(x U_jᵀ), v_j − mean_t v_j = (p_j − mean_t p_j) U_j.
    """

    coefficients: Float[Tensor, "token component rank"]
    """p"""
    basis: Float[Tensor, "component rank dim"]
    """U"""

    @property
    def dim(self) -> int:
        return self.basis.shape[-1]

    def squared_norm(self) -> Float[Tensor, "token component"]:
        gram = self.basis @ self.basis.mT
        return (torch.einsum("tkr,krs->tks", self.coefficients, gram) * self.coefficients).sum(-1)

    def norm(self) -> Float[Tensor, "token component"]:
        # At zero the root has no gradient; below EPSILON it is constant instead.
        return self.squared_norm().clamp_min(EPSILON**2).sqrt()

    def dot(self, x: Float[Tensor, "token dim"]) -> Float[Tensor, "token component"]:
        """v_j · x"""
        return (torch.einsum("td,krd->tkr", x, self.basis) * self.coefficients).sum(-1)

    def cosine(self, x: Float[Tensor, "token dim"]) -> Float[Tensor, "token component"]:
        """cos(v_j, x), 0 where either is zero."""
        return self.dot(x) / (self.norm() * x.norm(dim=-1, keepdim=True).clamp_min(EPSILON))

    def projected(self, directions: Float[Tensor, "dim q"]) -> Float[Tensor, "token component q"]:
        """v_j @ directions"""
        return torch.einsum("tkr,krq->tkq", self.coefficients, self.basis @ directions)

    def centred(self) -> "Vectors":
        """v_j minus its mean over tokens."""
        return Vectors(self.coefficients - self.coefficients.mean(0), self.basis)

    def overlaps(self) -> Float[Tensor, "token component component"]:
        """v_i · v_j for every pair of components of a token."""
        k, r, _ = self.basis.shape
        flat = self.basis.flatten(0, 1)
        gram = (flat @ flat.T).view(k, r, k, r)
        half = torch.einsum("tir,irjs->tijs", self.coefficients, gram)
        return (half * self.coefficients[:, None]).sum(-1)


def vectors_of(modulation: Modulation, attention: Float[Tensor, "token model"]) -> tuple[Vectors, Vectors]:
    """(v_a, v_b) of every token, the modulation's scale inside v_b."""
    match modulation:
        case RankOneSum():
            p = modulation.bottleneck(attention)
            W_b_up = modulation.W_b_up if modulation.scale == 1.0 else modulation.scale * modulation.W_b_up
            return Vectors(p, modulation.W_a_up), Vectors(p, W_b_up)
        case LowRank():
            strength = modulation.strength(attention)[..., None]
            return (
                Vectors(strength, modulation.A.T[:, None]),
                Vectors(torch.ones_like(strength), modulation.B[:, None]),
            )
        case Additive():
            raise NptVizError(
                "an additive adapter has no v_a and v_b; look at the change of the gate instead"
            )

"""The weight change of every token in factors: short coefficient rows times matrices that all tokens share."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from npt_viz.adapter import LowRank, RankOneSum
from npt_viz.capture.layer_view import LayerView
from npt_viz.shapes import Float, Int, Tensor


class Factored(NamedTuple):
    """One vector a token, kept as a product: the vectors are the rows of left @ right."""

    left: Float[Tensor, "token inner"]
    right: Float[Tensor, "inner out"]

    def vectors(self) -> Float[Tensor, "token out"]:
        """The vectors themselves: as large as one activation of the projection."""
        return self.left @ self.right

    def coordinates(self) -> Float[Tensor, "token axis"]:
        """Rows with the same inner products as the vectors, in no more columns than they need; float64, CPU.

        With right^T = Q R the rows of left R^T are the vectors' coordinates in the orthonormal columns of Q.
        """
        if len(self.left) < len(self.right):
            return self.vectors().detach().cpu().double()
        left, right = self.left.detach().cpu().double(), self.right.detach().cpu().double()
        return left @ torch.linalg.qr(right.T).R.T

    def norms(self) -> Float[Tensor, "token"]:
        """Length of each vector; float64, CPU."""
        return self.coordinates().norm(dim=-1)


@dataclass(frozen=True)
class Updates:
    """ΔW_t = Σ_j v_b,j v_a,j^T with v_a,j = a_j W_a,j and v_b,j = b_j W_b,j, at the tokens of a view.

    A sum of rank-1 updates has a_j = p_j and b_j = scale · p_j, its bottleneck. The tanh rule has one component for
    each of its r fixed directions: a_i = c_i, b_i = 1, and v_b,i = B_i is the same for every token.
    """

    a: Float[Tensor, "token component rank"]
    b: Float[Tensor, "token component rank"]
    W_a: Float[Tensor, "component rank inp"]
    W_b: Float[Tensor, "component rank out"]
    read: Float[Tensor, "token component rank"]
    """W_a,j x of the token's own input x, so that the scalar is a_j · read_j."""
    fixed_outputs: bool
    """Whether v_b is the same for every token, by the rule itself."""

    @property
    def scalars(self) -> Float[Tensor, "token component"]:
        """s_j = v_a,j · x, the modulation scalars."""
        return (self.a * self.read).sum(-1)

    @property
    def n_components(self) -> int:
        return self.a.shape[1]

    def inputs(self, component: int) -> Factored:
        """v_a of one component."""
        return Factored(self.a[:, component], self.W_a[component])

    def outputs(self, component: int) -> Factored:
        """v_b of one component."""
        return Factored(self.b[:, component], self.W_b[component])

    def effects(self, component: int | None = None) -> Factored:
        """s·v_b of one component, or the sum over all: what the modulation adds to the projection's output."""
        weighted = self.scalars[..., None] * self.b
        if component is None:
            return Factored(weighted.flatten(1), self.W_b.flatten(0, 1))
        return Factored(weighted[:, component], self.W_b[component])

    def with_attention_of(self, tokens: Int[Tensor, "token"]) -> "Updates":
        """The same tokens with the ΔW of others: v_a and v_b from the attention of `tokens`, x as it was."""
        return replace(self, a=self.a[tokens], b=self.b[tokens])


@torch.no_grad()
def updates_of(view: LayerView, target: str | None = None) -> Updates:
    """The factors of one target; raises NptVizError where the layer has no weight change there."""
    target, modulation = view.weight_change(target)
    return factors(modulation, view.attention, view.read_by(target))


@torch.no_grad()
def factors(
    modulation: RankOneSum | LowRank,
    attention: Float[Tensor, "token model"],
    x: Float[Tensor, "token inp"],
) -> Updates:
    """ΔW of every token in factors, and what each reads from its own input x."""
    if isinstance(modulation, LowRank):
        strength = modulation.strength(attention)[..., None]
        return Updates(
            a=strength,
            b=torch.ones_like(strength),
            W_a=modulation.A.T[:, None, :].detach(),
            W_b=modulation.B[:, None, :].detach(),
            read=(x @ modulation.A)[..., None],
            fixed_outputs=True,
        )
    bottleneck = modulation.bottleneck(attention)
    return Updates(
        a=bottleneck,
        b=modulation.scale * bottleneck,
        W_a=modulation.W_a_up.detach(),
        W_b=modulation.W_b_up.detach(),
        read=torch.einsum("ti,kri->tkr", x, modulation.W_a_up),
        fixed_outputs=False,
    )


@torch.no_grad()
def redrawn(modulation: RankOneSum | LowRank, generator: torch.Generator) -> RankOneSum | LowRank:
    """The same rule, shapes and sizes of every weight, with random directions: what no training would give."""
    twin = deepcopy(modulation)
    for weight in twin.parameters():
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        weight.copy_(drawn * weight.square().mean().sqrt())
    return twin

"""The rules by which an adapter changes one projection of the MLP, each in factored form.

A modulation maps the attention output `a` and the projection's own input `x` (z for gate and up, the
intermediate m for down) to a change of the projection's output. Nothing here ever forms the weight change
of a token, nor a (token, component, d_ffn) tensor.
"""

from copy import copy

import torch
from torch import Tensor, nn

from npt_viz.adapter.semantics import Factor
from npt_viz.errors import NptVizError
from npt_viz.shapes import Float


class RankOneSum(nn.Module):
    """scale * sum_j v_b,j (v_a,j . x), with v_a,j = a W_down,j W_a_up,j and v_b,j = a W_down,j W_b_up,j.

    Evaluated as in docs/mathematics.md §4: with p_j = a W_down,j the scalar is s_j = p_j . (x W_a_up,j^T) and the
    output is concat_j(s_j p_j) @ vstack_j(W_b_up,j): one matrix product, whatever the number of components.
    """

    def __init__(
        self,
        W_down: Float[Tensor, "component model rank"],
        W_a_up: Float[Tensor, "component rank inp"],
        W_b_up: Float[Tensor, "component rank out"],
        *,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.W_down, self.W_a_up, self.W_b_up = map(nn.Parameter, (W_down, W_a_up, W_b_up))
        self.scale = scale

    @property
    def components(self) -> int:
        """Number of rank-1 components."""
        return self.W_down.shape[0]

    @property
    def rank(self) -> int:
        """Width of the bottleneck."""
        return self.W_down.shape[2]

    def bottleneck(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch component rank"]:
        """p_j = a W_down,j, the bottleneck from which v_a,j and v_b,j are made."""
        return _through(attention, self.W_down)

    def scalars(
        self,
        bottleneck: Float[Tensor, "*batch component rank"],
        x: Float[Tensor, "*batch inp"],
    ) -> Float[Tensor, "*batch component"]:
        """s_j = v_a,j . x, the modulation scalars (without the scale)."""
        return (bottleneck * _through(x, self.W_a_up.transpose(1, 2))).sum(-1)

    def delta(
        self,
        bottleneck: Float[Tensor, "*batch component rank"],
        scalars: Float[Tensor, "*batch component"],
    ) -> Float[Tensor, "*batch out"]:
        """scale * sum_j s_j v_b,j."""
        weighted = (scalars[..., None] * bottleneck).flatten(-2)
        delta = weighted @ self.W_b_up.flatten(0, 1)
        # Most adapters have no scale, and a product with 1 is a pass over (token, d_ffn), twice with its gradient.
        return delta if self.scale == 1.0 else self.scale * delta

    def change(
        self,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"] | None = None,
    ) -> Float[Tensor, "*batch out"]:
        """Change of the projection's output."""
        bottleneck = self.bottleneck(attention)
        return self.delta(bottleneck, self.scalars(bottleneck, x))

    def v_a(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch component inp"]:
        """Input vectors v_a,j; for a few tokens at a time, because (token, component, inp) is large."""
        return torch.einsum("...kr,kri->...ki", self.bottleneck(attention), self.W_a_up)

    def v_b(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch component out"]:
        """Output vectors v_b,j with the scale in them; for a few tokens at a time."""
        return self.scale * torch.einsum("...kr,kro->...ko", self.bottleneck(attention), self.W_b_up)

    def norms(
        self, attention: Float[Tensor, "token model"]
    ) -> tuple[Float[Tensor, "token component"], Float[Tensor, "token component"]]:
        """(‖v_a,j‖, ‖v_b,j‖) of every component; their product is ‖ΔW_j‖_F."""
        bottleneck = self.bottleneck(attention)
        squares = [
            torch.einsum("tkr,krs,tks->tk", bottleneck, up @ up.transpose(1, 2), bottleneck)
            for up in (self.W_a_up, self.W_b_up)
        ]
        # Rounding can push the square of a tiny norm below zero.
        norm_a, norm_b = (square.clamp_min(0).sqrt() for square in squares)
        return norm_a, abs(self.scale) * norm_b

    def update_norm(self, attention: Float[Tensor, "token model"]) -> Float[Tensor, "token"]:
        """‖ΔW‖_F of the sum over components: sum_ij (v_a,i . v_a,j)(v_b,i . v_b,j), from r x r Gram matrices."""
        bottleneck = self.bottleneck(attention)
        square = bottleneck.new_zeros(bottleneck.shape[0])
        for i in range(self.components):
            left = bottleneck[:, i]
            for j in range(i + 1):
                right = bottleneck[:, j]
                overlaps = [((left @ (up[i] @ up[j].T)) * right).sum(-1) for up in (self.W_a_up, self.W_b_up)]
                square += (1 if i == j else 2) * overlaps[0] * overlaps[1]
        return abs(self.scale) * square.clamp_min(0).sqrt()

    def update_gram(self, attention: Float[Tensor, "token model"]) -> Float[Tensor, "token token"]:
        """⟨ΔW_t, ΔW_t'⟩_F between tokens: sum_ij (v_a,i . v_a,j')(v_b,i . v_b,j'), from r x r Gram matrices."""
        bottleneck = self.bottleneck(attention)
        gram = bottleneck.new_zeros(bottleneck.shape[0], bottleneck.shape[0])
        for i in range(self.components):
            for j in range(i + 1):
                overlaps = [
                    bottleneck[:, i] @ (up[i] @ up[j].T) @ bottleneck[:, j].T
                    for up in (self.W_a_up, self.W_b_up)
                ]
                pair = overlaps[0] * overlaps[1]
                gram += pair if i == j else pair + pair.T
        return self.scale**2 * gram


class Additive(nn.Module):
    """gate * factor(B_mult(A a)) + scale * B_add(A a); without W_mult the factor is 1, without W_add nothing is added.

    The added part is a change of bias, not of weight: it has no scalar and no ‖ΔW‖.
    """

    def __init__(
        self,
        W_down: Float[Tensor, "model rank"],
        W_add: Float[Tensor, "rank out"] | None = None,
        W_mult: Float[Tensor, "rank out"] | None = None,
        *,
        factor: Factor | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        assert W_add is not None or W_mult is not None, "nothing to modulate with"
        self.W_down = nn.Parameter(W_down)
        self.W_add = None if W_add is None else nn.Parameter(W_add)
        self.W_mult = None if W_mult is None else nn.Parameter(W_mult)
        self.factor = factor
        self.scale = scale
        self.components = 0

    @property
    def rank(self) -> int:
        """Width of the bottleneck."""
        return self.W_down.shape[1]

    def change(
        self,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"],
    ) -> Float[Tensor, "*batch out"]:
        """Change of the projection's output."""
        bottleneck = attention @ self.W_down
        changes = []
        if self.W_mult is not None:
            changes.append((self._factor(bottleneck @ self.W_mult) - 1) * unmodulated)
        if self.W_add is not None:
            changes.append(self.scale * (bottleneck @ self.W_add))
        return changes[0] if len(changes) == 1 else changes[0] + changes[1]

    def _factor(self, x: Tensor) -> Tensor:
        match self.factor:
            case "one_plus_sigmoid":
                return 1 + torch.sigmoid(x)
            case "one_plus_tanh":
                return 1 + torch.tanh(x)
            case "half_sigmoid":
                return 0.5 * torch.sigmoid(x) + 0.5
        raise ValueError(f"factor {self.factor!r} is none of the three recipes")


class LowRank(nn.Module):
    """gate + ((z A) * c) B: ΔW = (A diag(c) B)^T has rank r for every token. Base of the rules that make c.

    Column i of A and row i of B are one rank-1 component whose strength is c_i, so the scalars are s_i = c_i (z . A_i).
    """

    def __init__(
        self,
        A: Float[Tensor, "model rank"],
        B: Float[Tensor, "rank out"],
        *,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        self.scale = scale

    @property
    def components(self) -> int:
        """Number of rank-1 components."""
        return self.A.shape[1]

    rank = components

    def strength(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch rank"]:
        """c."""
        raise NotImplementedError

    def change(
        self,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"] | None = None,
    ) -> Float[Tensor, "*batch out"]:
        """Change of the projection's output."""
        return ((x @ self.A) * self.strength(attention)) @ self.B

    def v_a(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch component inp"]:
        """Input vectors c_i A_i; for a few tokens at a time."""
        return self.strength(attention)[..., None] * self.A.T

    def v_b(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch component out"]:
        """Output vectors B_i, the same for every token."""
        return self.B.expand(*attention.shape[:-1], *self.B.shape)

    def norms(
        self, attention: Float[Tensor, "token model"]
    ) -> tuple[Float[Tensor, "token component"], Float[Tensor, "token component"]]:
        """(‖v_a,i‖, ‖v_b,i‖) of every component."""
        strength = self.strength(attention)
        return strength.abs() * self.A.norm(dim=0), self.B.norm(dim=1).expand_as(strength)

    def update_norm(self, attention: Float[Tensor, "token model"]) -> Float[Tensor, "token"]:
        """‖ΔW‖_F = sqrt(c ((A^T A) * (B B^T)) c)."""
        strength = self.strength(attention)
        gram = (self.A.T @ self.A) * (self.B @ self.B.T)
        return ((strength @ gram) * strength).sum(-1).clamp_min(0).sqrt()

    def update_gram(self, attention: Float[Tensor, "token model"]) -> Float[Tensor, "token token"]:
        """⟨ΔW_t, ΔW_t'⟩_F between tokens: c_t ((A^T A) * (B B^T)) c_t'."""
        strength = self.strength(attention)
        return strength @ ((self.A.T @ self.A) * (self.B @ self.B.T)) @ strength.T


class LowRankTanh(LowRank):
    """c = scale * tanh(a A): the token sets its own strengths."""

    def strength(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch rank"]:
        """c = scale * tanh(a A)."""
        return self.scale * torch.tanh(attention @ self.A)


NOT_CAUSAL = (
    "S0-pooled has one weight change for the whole text, made from its mean attention: it is the same at every token, and "
    "every number of a token depends on the tokens after it; a text that is cut or continued is another text"
)


class LowRankPooled(LowRank):
    """c = scale * (ā A), ā the mean of a over all tokens of a text: one weight change for the text, not causal.

    It runs only where all tokens are known (`of_text`). What it is given then may be some of them: c stays the text's.
    """

    pooled: Float[Tensor, "*batch 1 rank"] | None = None

    def of_text(self, attention: Float[Tensor, "*batch token model"]) -> "LowRankPooled":
        """The same weights with the strengths of these texts, each pooled by itself."""
        bound = copy(self)
        bound.pooled = self.scale * (attention.mean(-2, keepdim=True) @ self.A)
        return bound

    def strength(self, attention: Float[Tensor, "*batch model"]) -> Float[Tensor, "*batch rank"]:
        """c, the same at every token of a text; NptVizError before `of_text`."""
        if self.pooled is None:
            raise NptVizError(
                "S0-pooled makes its weight change from the mean attention of a whole text, and what was asked looks at "
                "some tokens alone; choose another reading of the file (semantics S0 or S0-residual) for it"
            )
        # One token of each text, without its axis: the pooled strengths drop theirs too.
        pooled = self.pooled if attention.ndim >= self.pooled.ndim else self.pooled.squeeze(-2)
        return pooled.expand(*attention.shape[:-1], self.rank)


Modulation = RankOneSum | Additive | LowRank


def _through(x: Tensor, maps: Float[Tensor, "component inp rank"]) -> Tensor:
    """x (…, inp) through every component's map at once: (…, component, rank)."""
    flat = maps.permute(1, 0, 2).flatten(1)
    return (x @ flat).unflatten(-1, (maps.shape[0], maps.shape[2]))

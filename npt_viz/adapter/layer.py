"""Adapter of one NPT layer, and the MLP that it modulates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from npt_viz.adapter.modulation import Additive, LowRankPooled, LowRankTanh, Modulation, RankOneSum
from npt_viz.adapter.semantics import TARGETS, AttentionPath, Semantics, Target, variant_name
from npt_viz.shapes import Float


class Projected(NamedTuple):
    """Outputs of the frozen gate and up projections for one input, each (…, d_ffn)."""

    gate: Tensor
    up: Tensor


class MlpTrace(NamedTuple):
    """Activations inside one SwiGLU MLP: gate, up and intermediate (…, d_ffn), output (…, d_model)."""

    gate: Tensor
    up: Tensor
    intermediate: Tensor
    output: Tensor


class LayerAdapter(nn.Module):
    """Adapter of one layer: its modulations by target.

    Parameters are float32 whatever the base model's dtype; a modulation is computed in float32 and
    then cast to the activation it is added to.
    """

    def __init__(self, layer: int, semantics: Semantics, modulations: Mapping[str, nn.Module]) -> None:
        """modulations: learned ones (Modulation), or modules with the same `change`: ablations, the exact patch."""
        super().__init__()
        self.layer = layer
        self.semantics = semantics
        self.modulations = nn.ModuleDict({t: modulations[t] for t in TARGETS if t in modulations})

    @property
    def learned(self) -> dict[Target, Modulation]:
        """Learned modulations by target; not for an adapter made of other modules."""
        return {target: self.modulation(target) for target in self.targets}

    def modulation(self, target: str) -> Modulation:
        """Learned modulation of one target; not for an adapter made of other modules."""
        return cast(Modulation, self.modulations[target])

    @property
    def home(self) -> nn.Parameter:
        """First parameter: `tensor.to(adapter.home)` has the dtype and the device of the adapter."""
        return next(self.parameters())

    @property
    def targets(self) -> tuple[Target, ...]:
        """Modulated projections, in the order of TARGETS."""
        return tuple(target for target in TARGETS if target in self.modulations)

    @property
    def attention(self) -> AttentionPath:
        """Path of the attention output: withheld, beside, standard, mlp_only (see Semantics)."""
        return self.semantics.attention

    @property
    def variant(self) -> str:
        """Short name of the variant, such as N5."""
        return variant_name(self.semantics, self.targets)

    @property
    def is_pooled(self) -> bool:
        """Whether a modulation mixes all tokens of a text: then it is not causal, and no token stands for itself."""
        return self.semantics.rule == "low_rank_pooled"

    def of_text(self, attention: Float[Tensor, "*batch token model"]) -> "LayerAdapter":
        """The adapter as it runs on these texts, given all their tokens; itself unless it pools over them."""
        if not self.is_pooled:
            return self
        home: Tensor = self.home
        bound = {name: pooled_over(each, attention.to(home)) for name, each in self.modulations.items()}
        return LayerAdapter(self.layer, self.semantics, bound)

    def change(
        self,
        target: str,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"],
    ) -> Float[Tensor, "*batch out"]:
        """Change of one projection's output, in that output's dtype and on its device."""
        modulation: Any = self.modulations[target]
        home = next(modulation.parameters())
        added = modulation.change(attention.to(home), x.to(home), unmodulated.to(home))
        return added.to(unmodulated)

    def mlp(
        self,
        mlp: nn.Module,
        attention: Float[Tensor, "*batch model"],
        mlp_input: Float[Tensor, "*batch model"],
        plain: MlpTrace | Projected | None = None,
    ) -> MlpTrace:
        """Activations of the modulated MLP.

        mlp: the base layer's SwiGLU module, only called.
        mlp_input: z, or z_C where the MLP reads attention.
        plain: gate and up of the same input without modulation, where they are known: saves two products.
        """
        gate = projection(mlp, "gate")(mlp_input) if plain is None else plain.gate
        up = projection(mlp, "up")(mlp_input) if plain is None else plain.up
        gate = self._modulated("gate", attention, mlp_input, gate)
        up = self._modulated("up", attention, mlp_input, up)
        intermediate = F.silu(gate) * up
        output = self._modulated("down", attention, intermediate, projection(mlp, "down")(intermediate))
        return MlpTrace(gate, up, intermediate, output)

    def _modulated(self, target: Target, attention: Tensor, x: Tensor, output: Tensor) -> Tensor:
        if target not in self.modulations:
            return output
        return output + self.change(target, attention, x, output)


def pooled_over(change: Any, attention: Float[Tensor, "*batch token model"]) -> Any:
    """A modulation, or a layer's change, as it is on texts of which these are all tokens (`of_text`, where it has one)."""
    of_text = getattr(change, "of_text", None)
    return change if of_text is None else of_text(attention)


def projection(mlp: nn.Module, target: Target) -> nn.Module:
    """The gate, up or down projection of a SwiGLU MLP."""
    return mlp.get_submodule(f"{target}_proj")


def mlp_trace(mlp: nn.Module, mlp_input: Float[Tensor, "*batch model"]) -> MlpTrace:
    """Activations of the base model's SwiGLU MLP."""
    gate, up = projection(mlp, "gate")(mlp_input), projection(mlp, "up")(mlp_input)
    intermediate = F.silu(gate) * up
    return MlpTrace(gate, up, intermediate, projection(mlp, "down")(intermediate))


def random_adapter(
    layer: int,
    semantics: Semantics,
    targets: Sequence[str],
    *,
    d_model: int,
    d_ffn: int,
    rank: int,
    components: int = 1,
    std: float = 0.1,
    seed: int = 0,
) -> LayerAdapter:
    """Adapter with every weight drawn from N(0, std²)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return std * torch.randn(*shape, generator=generator)

    modulations: dict[str, Modulation] = {}
    for target in targets:
        inp, out = (d_ffn, d_model) if target == "down" else (d_model, d_ffn)
        match semantics.rule:
            case "rank_one_sum":
                modulations[target] = RankOneSum(
                    normal(components, d_model, rank),
                    normal(components, rank, inp),
                    normal(components, rank, out),
                    scale=semantics.scale,
                )
            case "additive" | "multiplicative" | "additive_multiplicative":
                modulations[target] = Additive(
                    normal(d_model, rank),
                    normal(rank, out) if semantics.rule != "multiplicative" else None,
                    normal(rank, out) if semantics.factor else None,
                    factor=semantics.factor,
                    scale=semantics.scale,
                )
            case "low_rank_tanh" | "low_rank_pooled":
                kind = LowRankTanh if semantics.rule == "low_rank_tanh" else LowRankPooled
                modulations[target] = kind(normal(d_model, rank), normal(rank, out), scale=semantics.scale)
    return LayerAdapter(layer, semantics, modulations)

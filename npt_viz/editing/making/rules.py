"""Rules that make factors from a source token, and their settings.

A rule is an effect at the source token (what is added to a projection's output there) and a key v_a (the inputs to
which it is added). NPT's own rule has both; exact is the closed form of docs/mathematics.md §5; minimum_norm and
whitened keep NPT's effect at the source token and choose another key (§12).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from npt_viz.adapter import Additive, LayerAdapter, LowRank, Modulation, Target
from npt_viz.arguments import checked_fields
from npt_viz.capture.layer_trace import LayerInputs, Reads
from npt_viz.editing.making.keys import minimum_norm_key, whitened_key
from npt_viz.editing.making.readings import projection_inputs
from npt_viz.editing.updates import Factors, Place
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.question import Mode, Positions, check_mode, check_positions
from npt_viz.shapes import Float

RuleName = Literal["npt", "exact", "minimum_norm", "whitened"]
RULES: dict[RuleName, str] = {
    "npt": "the token's own modulation, v_a and v_b as the adapter makes them",
    "exact": "the closed form that replaces attention at this token: v_a = z/‖z‖², v_b = W(z_C − z) for gate and up, "
    "v_a = m_C/‖m_C‖², v_b = a for down",
    "minimum_norm": "the modulation's effect at this token with the smallest key, v_a = x/‖x‖²",
    "whitened": "the modulation's effect at this token with the key that other texts read least, v_a = C⁻¹x/(xᵀC⁻¹x)",
}


@checked_fields
@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """Settings with which a token's modulation becomes a permanent update."""

    name: RuleName = "npt"
    """See RULES."""

    combine: Literal["mean", "sum"] = "mean"
    """Of ΔW over the chosen tokens; the same for one token."""

    components: tuple[int, ...] | None = None
    """The components of each token's modulation that are written; None is all of them."""

    reads: Reads = "z_C"
    """The MLP input on which minimum_norm, whitened and the projection act."""

    mode: Mode = "local"
    """local: the source runs through the base model; propagated: through the NPT model with the edited layers on."""

    positions: Positions = "deployed"
    """deployed: with RoPE; trained: identity positions, as the public training and injection code ran attention."""

    reference: tuple[str, ...] = ()
    """The texts whose second moment whitens the key; empty is a part of the bundled sample."""

    ridge: float = 0.01
    """Added to the second moment before it is inverted, as a share of its mean eigenvalue."""

    protect: tuple[str, ...] = ()
    """Prompts on which the edited layers must not change: v_a is projected off everything they read."""

    def __post_init__(self):
        choices = {
            "name": (self.name, get_args(RuleName)),
            "combine": (self.combine, ("mean", "sum")),
            "reads": (self.reads, get_args(Reads)),
        }
        for field, (value, allowed) in choices.items():
            if value not in allowed:
                raise NptVizError(f"the update's {field} is {value!r}; choose one of {', '.join(allowed)}")
        check_mode(self.mode)
        check_positions(self.positions)
        if not self.ridge > 0:
            raise NptVizError(f"ridge is {self.ridge!r}; give a positive share, such as 0.01")
        if self.components is not None and not self.components:
            raise NptVizError("no component was chosen; name at least one, or leave the choice out for all")
        if twice := [j for j in self.components or () if self.components.count(j) > 1]:
            raise NptVizError(
                f"component {twice[0]} is named twice and would be written twice; name each component once"
            )


def rule_of(rule: UpdateRule | str) -> UpdateRule:
    """UpdateRule of a name; one with settings is returned as it is."""
    if isinstance(rule, UpdateRule):
        return rule
    if rule not in RULES:
        raise NptVizError(f"rule {rule!r} does not exist; choose one of {', '.join(RULES)}")
    return UpdateRule(name=rule)


def modulation_factors(
    modulation: Modulation,
    attention: Float[Tensor, "token model"],
    weights: Float[Tensor, "token"],
    components: Sequence[int] | None = None,
) -> Factors:
    """Factors of sum_t weights_t ΔW_t; with many tokens no more factors than the sum's rank."""
    chosen = _components(modulation, components)
    assert not isinstance(modulation, Additive), "it adds a bias and has no factors"
    if isinstance(modulation, LowRank):
        # Every token shares A and B, so the sum has rank r: c is all that is summed.
        strength = weights @ modulation.strength(attention)
        v_a, v_b = (strength[:, None] * modulation.A.T)[chosen], modulation.B[chosen]
    elif len(weights) <= modulation.rank:
        v_a = modulation.v_a(attention)[:, chosen].flatten(0, 1)
        v_b = (weights[:, None, None] * modulation.v_b(attention)[:, chosen]).flatten(0, 1)
    else:
        # ΔW_j = W_b^T (sum_t w_t p_t p_t^T) W_a.
        p = modulation.bottleneck(attention)[:, chosen]
        moments = torch.einsum("t,tkr,tks->krs", weights, p, p)
        v_a = (moments @ modulation.W_a_up[chosen]).flatten(0, 1)
        v_b = modulation.scale * modulation.W_b_up[chosen].flatten(0, 1)
    return Factors(v_a.cpu().numpy(), v_b.cpu().numpy())


def npt_layer_factors(
    adapter: LayerAdapter,
    attention: Float[Tensor, "token model"],
    weights: Float[Tensor, "token"],
    rule: UpdateRule,
) -> dict[Place, Factors]:
    """Factors of the rule `npt`: the modulations of the chosen tokens."""
    home = adapter.home
    attention, weights = attention.to(home), weights.to(home)
    return {
        Place(adapter.layer, target): modulation_factors(modulation, attention, weights, rule.components)
        for target, modulation in adapter.learned.items()
    }


def exact_layer_factors(
    model: BaseModel, layer: int, reading: LayerInputs, weights: Float[Tensor, "token"]
) -> dict[Place, Factors]:
    """Factors of the rule `exact` in all three projections: h + MLP_patched(z) = h + a + MLP(z_C) at the source token."""
    parts = model.parts(layer)
    z, z_C = reading.z, reading.z_C
    change = {
        target: (projection(z_C.to(model.dtype)) - projection(z.to(model.dtype))).float()
        for target, projection in (("gate", parts.gate), ("up", parts.up))
    }
    m_C = projection_inputs(model, layer, z_C)["down"]
    return {
        Place(layer, "gate"): paired(minimum_norm_key(z), change["gate"], weights),
        Place(layer, "up"): paired(minimum_norm_key(z), change["up"], weights),
        Place(layer, "down"): paired(minimum_norm_key(m_C), reading.attention, weights),
    }


def keyed_layer_factors(
    model: BaseModel,
    adapter: LayerAdapter,
    reading: LayerInputs,
    weights: Float[Tensor, "token"],
    rule: UpdateRule,
    reference: Mapping[Place, Tensor],
) -> dict[Place, Factors]:
    """Factors of the rules `minimum_norm` and `whitened`: NPT's effect at the source token with another key."""
    factors = {}
    for target, (x, effect) in effects_at_source(model, adapter, reading, rule).items():
        place = Place(adapter.layer, target)
        if rule.name == "whitened":
            key = whitened_key(x, reference[place].to(x), rule.ridge)
        else:
            key = minimum_norm_key(x)
        factors[place] = paired(key, effect, weights)
    return factors


def effects_at_source(
    model: BaseModel, adapter: LayerAdapter, reading: LayerInputs, rule: UpdateRule
) -> dict[Target, tuple[Float[Tensor, "token _"], Float[Tensor, "token _"]]]:
    """Target -> (input of the projection, change of its output by the modulation) at the source tokens."""
    parts = model.parts(adapter.layer)
    effects: dict[Target, Tensor] = {}
    inputs: dict[Target, Tensor] = {}
    mlp_input = reading.mlp_input(rule.reads)
    for target, projection in (("gate", parts.gate), ("up", parts.up), ("down", parts.down)):
        if target not in adapter.targets:
            continue
        # The intermediate that down reads has the effects on gate and up in it.
        x = projection_inputs(model, adapter.layer, mlp_input, effects)[target]
        inputs[target] = x
        effects[target] = _effect(
            adapter.modulation(target),
            reading.attention,
            x,
            projection(x.to(model.dtype)).float(),
            rule.components,
        )
    return {target: (inputs[target], effects[target]) for target in effects}


def paired(
    keys: Float[Tensor, "token inp"], effects: Float[Tensor, "token out"], weights: Float[Tensor, "token"]
) -> Factors:
    """Factors of one token each: its key and its weighted effect."""
    return Factors(keys.cpu().numpy(), (weights.to(effects)[:, None] * effects).cpu().numpy())


def _effect(modulation: Modulation, attention, x, unmodulated, components) -> Tensor:
    """Change of the projection's output by the chosen components, for each token's own x."""
    home = next(modulation.parameters())
    if isinstance(modulation, Additive):
        _components(modulation, components)
        added = modulation.change(attention.to(home), x.to(home), unmodulated.to(home))
    else:
        chosen = _components(modulation, components)
        a = attention.to(home)
        v_a, v_b = modulation.v_a(a)[:, chosen], modulation.v_b(a)[:, chosen]
        added = torch.einsum("tki,ti,tko->to", v_a, x.to(home), v_b)
    return added.to(x)


def _components(modulation: Modulation, chosen: Sequence[int] | None) -> list[int]:
    """Indices of the chosen components; NptVizError for one that does not exist."""
    if chosen is None:
        return list(range(modulation.components))
    if beyond := [j for j in chosen if not 0 <= j < modulation.components]:
        if modulation.components == 0:
            raise NptVizError(
                "this variant adds a bias and has no components; leave the choice of components out"
            )
        raise NptVizError(
            f"component {beyond[0]} does not exist: the modulation has components 0 to {modulation.components - 1}; "
            "choose among these"
        )
    return list(chosen)

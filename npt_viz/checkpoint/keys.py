"""The key names of every format, and the layers that they describe: nothing here reads a value.

Format A  layer_{i}_np.{W_down|W_a_up|W_b_up}[_gate|_up|_down][.{j}], or model.layers.{i}.np_component.…
Format B  model.layers.{i}.adapter.{A_proj|B_model|B_ffn|B_proj|B_add|B_mult}.weight, nn.Linear orientation
Format C  layer_{i}_A, layer_{i}_B
The suffix of format A is read in B and C too, where only npt_viz writes it (other targets than the gate).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from npt_viz.adapter import TARGETS, Additive, LowRankTanh, Modulation, RankOneSum, Semantics, Target
from npt_viz.adapter.semantics import Rule
from npt_viz.checkpoint.store import TensorInfo
from npt_viz.errors import NptVizError

_TARGET = r"(?:_(?P<target>gate|up|down))?"
_A_ROLE = rf"(?P<role>W_down|W_a_up|W_b_up){_TARGET}(?:\.(?P<component>\d+))?"
_PATTERNS = {
    rf"layer_(?P<layer>\d+)_np\.{_A_ROLE}": "A",
    rf"model\.layers\.(?P<layer>\d+)\.np_component\.{_A_ROLE}": "A",
    r"model\.layers\.(?P<layer>\d+)\.adapter\."
    rf"(?P<role>A_proj|B_model|B_ffn|B_proj|B_add|B_mult){_TARGET}\.weight": "B",
    rf"layer_(?P<layer>\d+)_(?P<role>A|B){_TARGET}": "C",
}
_PATTERNS = {re.compile(pattern): format_ for pattern, format_ in _PATTERNS.items()}

_BASE = re.compile(
    r"(model\.)?(embed_tokens|norm|layers\.\d+\.(self_attn|mlp|input_layernorm|post_attention_layernorm))\..+"
    r"|lm_head\..+"
)


class Family(NamedTuple):
    """One rule in one format: which key role holds which argument of the modulation."""

    rule: Rule
    arguments: Mapping[str, str]


FAMILIES: dict[str, tuple[Family, ...]] = {
    "A": (Family("rank_one_sum", {"W_down": "W_down", "W_a_up": "W_a_up", "W_b_up": "W_b_up"}),),
    "B": (
        Family("rank_one_sum", {"A_proj": "W_down", "B_model": "W_a_up", "B_ffn": "W_b_up"}),
        Family("additive", {"A_proj": "W_down", "B_proj": "W_add"}),
        Family("additive_multiplicative", {"A_proj": "W_down", "B_add": "W_add", "B_mult": "W_mult"}),
    ),
    "C": (Family("low_rank_tanh", {"A": "A", "B": "B"}),),
}


@dataclass(frozen=True)
class TargetPlan:
    """Where the modulation of one projection lies in a file."""

    keys: Mapping[str, tuple[str, ...]]
    """Argument of the modulation -> the keys of its components."""
    transposed: bool
    """nn.Linear orientation, (out, in)."""
    rank: int
    components: int


@dataclass(frozen=True)
class LayerPlan:
    """Where one NPT layer lies in a file."""

    layer: int
    format: str
    rule: Rule
    targets: Mapping[Target, TargetPlan]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for plan in self.targets.values() for keys in plan.keys.values() for key in keys)


@dataclass(frozen=True)
class Layout:
    """What the names and shapes of a file say."""

    layers: Mapping[int, LayerPlan]
    d_model: int
    d_ffn: int | None
    """None where no tensor has this axis (an additive change of down alone)."""
    unused: tuple[str, ...]
    base: tuple[str, ...]
    """Names of the base model's own tensors."""


def layout_of(infos: Mapping[str, TensorInfo], where: str) -> Layout:
    """Sort a file's names into layers and check that their shapes fit together.

    where: the file's name, for the errors. Raises NptVizError for no NPT key at all, a missing or doubled
    tensor, and shapes that do not fit.
    """
    keys: dict[int, dict[tuple[str, Target], dict[str, dict[int, str]]]] = {}
    unused, base = [], []
    for name in infos:
        found = _parsed(name)
        if found is None:
            (base if _is_base(name) else unused).append(name)
            continue
        layer, format_, target, role, component = found
        components = keys.setdefault(layer, {}).setdefault((format_, target), {}).setdefault(role, {})
        if component in components:
            raise NptVizError(
                f"{where}: {components[component]} and {name} are the same tensor of layer {layer} under two names; "
                "keep one of them"
            )
        components[component] = name
    if not keys:
        raise NptVizError(_nothing_recognised(where, infos))
    layers = {layer: _layer_plan(layer, keys[layer], infos, where) for layer in sorted(keys)}
    d_model, d_ffn = _checked_widths(layers.values(), infos, where)
    return Layout(layers, d_model, d_ffn, tuple(unused), tuple(base))


def modulation(
    plan: TargetPlan, tensors: Mapping[str, tuple[Tensor, ...]], semantics: Semantics
) -> Modulation:
    """The modulation whose arguments were read as `plan` says, each a tuple over components."""
    turned = {
        argument: [tensor.T.contiguous() if plan.transposed else tensor for tensor in components]
        for argument, components in tensors.items()
    }
    if semantics.rule == "rank_one_sum":
        stacked = {argument: torch.stack(components) for argument, components in turned.items()}
        return RankOneSum(**stacked, scale=semantics.scale)
    single = {argument: components[0] for argument, components in turned.items()}
    if semantics.rule == "low_rank_tanh":
        return LowRankTanh(**single, scale=semantics.scale)
    return Additive(**single, factor=semantics.factor, scale=semantics.scale)


def named_tensors(layer: int, target: Target, modulation: Modulation) -> dict[str, Tensor]:
    """The modulation's tensors under the names, and in the orientation, of the native format."""
    suffix = "" if target == "gate" else f"_{target}"
    return {name: tensor.detach() for name, tensor in _named(layer, suffix, modulation)}


def _named(layer: int, suffix: str, modulation: Modulation) -> Iterable[tuple[str, Tensor]]:
    match modulation:
        case RankOneSum():
            for role in ("W_down", "W_a_up", "W_b_up"):
                stack = getattr(modulation, role)
                for j, tensor in enumerate(stack):
                    yield f"layer_{layer}_np.{role}{suffix}" + (f".{j}" if len(stack) > 1 else ""), tensor
        case Additive():
            prefix = f"model.layers.{layer}.adapter."
            add = "B_proj" if modulation.W_mult is None else "B_add"
            yield f"{prefix}A_proj{suffix}.weight", modulation.W_down.T
            yield f"{prefix}{add}{suffix}.weight", modulation.W_add.T
            if modulation.W_mult is not None:
                yield f"{prefix}B_mult{suffix}.weight", modulation.W_mult.T
        case LowRankTanh():
            yield f"layer_{layer}_A{suffix}", modulation.A
            yield f"layer_{layer}_B{suffix}", modulation.B


def _parsed(name: str) -> tuple[int, str, Target, str, int] | None:
    for pattern, format_ in _PATTERNS.items():
        if match := pattern.fullmatch(name):
            parts = match.groupdict()
            component = int(parts.get("component") or 0)
            return int(parts["layer"]), format_, parts["target"] or "gate", parts["role"], component
    return None


def _is_base(name: str) -> bool:
    return bool(_BASE.fullmatch(name)) or name.endswith(".original_gate_weight")


def _layer_plan(layer: int, found: Mapping, infos: Mapping[str, TensorInfo], where: str) -> LayerPlan:
    families = {}
    for (format_, target), roles in found.items():
        families[target, format_] = _family(layer, target, format_, roles, where)
    rules = {family.rule for family in families.values()}
    formats = {format_ for format_, _ in found}
    if len(rules) > 1 or len(formats) > 1:
        raise NptVizError(
            f"{where}: layer {layer} mixes the keys of several variants ({', '.join(sorted(rules))}); "
            "a layer follows one rule: keep the tensors of one"
        )
    [format_] = formats
    targets = {}
    for target in TARGETS:
        if (format_, target) in found:
            roles = found[format_, target]
            targets[target] = _target_plan(families[target, format_], format_, roles, infos, where)
    return LayerPlan(layer, format_, families[next(iter(families))].rule, targets)


def _family(layer: int, target: Target, format_: str, roles: Mapping, where: str) -> Family:
    fitting = [family for family in FAMILIES[format_] if roles.keys() <= family.arguments.keys()]
    complete = [family for family in fitting if roles.keys() == family.arguments.keys()]
    if complete:
        return complete[0]
    found = ", ".join(key for components in roles.values() for key in components.values())
    if not fitting:
        raise NptVizError(
            f"{where}: layer {layer} ({target}) mixes the keys of several variants: {found}; keep those of one"
        )
    missing = " or ".join(" and ".join(sorted(f.arguments.keys() - roles.keys())) for f in fitting)
    raise NptVizError(
        f"{where}: layer {layer} ({target}) lacks {missing} beside {found}; "
        "an adapter needs all of its tensors: copy the complete file"
    )


def _target_plan(
    family: Family, format_: str, roles: Mapping[str, Mapping[int, str]], infos: Mapping, where: str
) -> TargetPlan:
    count = 1 + max(max(components) for components in roles.values())
    for role, components in roles.items():
        if len(components) < count:
            absent = next(j for j in range(count) if j not in components)
            raise NptVizError(
                f"{where}: {role} has no component {absent} beside {next(iter(components.values()))}, although the "
                f"target has {count} components; an adapter needs all of its tensors: copy the complete file"
            )
    keys = {
        argument: tuple(roles[role][j] for j in range(count)) for role, argument in family.arguments.items()
    }
    for key in (key for group in keys.values() for key in group):
        info = infos[key]
        if len(info.shape) != 2 or 0 in info.shape or not info.is_float:
            raise NptVizError(
                f"{where}: {key} is {info.dtype} of shape {info.shape}; an adapter's tensor is a matrix of floats: "
                "check how the file was written"
            )
    transposed = format_ == "B"
    bottleneck = keys[next(iter(keys))]
    ranks = [infos[key].shape[0 if transposed else 1] for key in bottleneck]
    if len(set(ranks)) > 1:
        raise NptVizError(
            f"{where}: the components {', '.join(bottleneck)} have ranks {ranks}; "
            "the components of one target need one rank: save them with the same"
        )
    match family.rule:
        case "rank_one_sum":
            components = count
        case "low_rank_tanh":
            components = ranks[0]
        case _:
            components = 0
    return TargetPlan(keys, transposed, ranks[0], components)


def _checked_widths(
    layers: Iterable[LayerPlan], infos: Mapping[str, TensorInfo], where: str
) -> tuple[int, int | None]:
    """(d_model, d_ffn), the same for all tensors of the file.

    Raises NptVizError naming the first tensor that disagrees with those before it.
    """
    widths: dict[str, tuple[int, str]] = {}
    for plan in layers:
        for target, target_plan in plan.targets.items():
            for argument, keys in target_plan.keys.items():
                for key in keys:
                    shape = infos[key].shape[::-1] if target_plan.transposed else infos[key].shape
                    axes = _axes(argument, target)
                    for axis, size in zip(axes, shape, strict=True):
                        if axis == "rank":
                            expected, reason = target_plan.rank, next(iter(target_plan.keys.values()))[0]
                        else:
                            expected, reason = widths.setdefault(axis, (size, key))
                        if size != expected:
                            raise NptVizError(
                                f"{where}: {key} of shape {infos[key].shape} has {axis} {size}, but {reason} has "
                                f"{expected}; the tensors of a checkpoint fit one model: check how it was written"
                            )
    return widths["d_model"][0], widths.get("d_ffn", (None,))[0]


def _axes(argument: str, target: Target) -> tuple[str, str]:
    """What the two axes of a tensor mean, in the orientation of format A."""
    inp, out = ("d_ffn", "d_model") if target == "down" else ("d_model", "d_ffn")
    match argument:
        case "W_down" | "A":
            return "d_model", "rank"
        case "W_a_up":
            return "rank", inp
        case _:
            return "rank", out


def _nothing_recognised(where: str, infos: Mapping[str, TensorInfo]) -> str:
    examples = ", ".join(list(infos)[:3]) or "no tensor at all"
    return (
        f"{where}: no NPT adapter recognised among {len(infos)} tensors ({examples}…); expected keys such as "
        "layer_15_np.W_down, model.layers.15.adapter.A_proj.weight or layer_15_A: open the file with the adapter"
    )

"""Layers of a file, from the names and shapes of its tensors. Reads no value."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from npt_viz.adapter import (
    TARGETS,
    Additive,
    LowRankPooled,
    LowRankTanh,
    Modulation,
    RankOneSum,
    Semantics,
    Target,
)
from npt_viz.adapter.semantics import Rule
from npt_viz.checkpoint.keys import FAMILIES, Family, is_base_key, looks_like_adapter, parsed_key
from npt_viz.checkpoint.store import TensorInfo
from npt_viz.errors import NptVizError

Infos = Mapping[str, TensorInfo]
_Roles = dict[str, dict[int, str]]
"""Role -> component -> key."""
_Targets = dict[Target, _Roles]


@dataclass(frozen=True)
class TargetPlan:
    """Tensors in a file that make the modulation of one projection."""

    roles: Mapping[str, tuple[str, ...]]
    """Role in the key name -> the keys of its components."""
    families: tuple[Family, ...]
    """What the roles may mean, the usual first."""
    transposed: bool
    """nn.Linear orientation, (out, in)."""
    rank: int

    def keys(self, rule: Rule) -> dict[str, tuple[str, ...]]:
        """Argument of the modulation -> the keys of its components."""
        family = next(family for family in self.families if family.rule == rule)
        return {argument: self.roles[role] for role, argument in family.arguments.items()}

    def components(self, rule: Rule) -> int:
        """Number of rank-1 components of ΔW; 0 where the rule is no low-rank weight change."""
        if rule == "rank_one_sum":
            return len(next(iter(self.roles.values())))
        return self.rank if rule in ("low_rank_tanh", "low_rank_pooled") else 0


@dataclass(frozen=True)
class LayerPlan:
    """Tensors in a file that make one NPT layer."""

    layer: int
    format: str
    rules: tuple[Rule, ...]
    """Rules that these tensors can follow, the usual first."""
    targets: Mapping[Target, TargetPlan]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of all tensors of the layer."""
        return tuple(key for plan in self.targets.values() for keys in plan.roles.values() for key in keys)

    @property
    def rule(self) -> Rule:
        """The usual rule of these tensors."""
        return self.rules[0]

    @property
    def roles(self) -> frozenset[str]:
        """Roles that the key names have."""
        return frozenset(role for plan in self.targets.values() for role in plan.roles)


@dataclass(frozen=True)
class Layout:
    """NPT layers of a file and their widths."""

    layers: Mapping[int, LayerPlan]
    d_model: int
    d_ffn: int | None
    """None where no tensor has this axis (an additive change of down alone)."""
    unused: tuple[str, ...]
    base: tuple[str, ...]
    """Names of the base model's own tensors."""
    aliases: tuple[str, ...] = ()
    """Other names of tensors that are counted already: the same memory in the file."""
    prefixes: tuple[str, ...] = ("",)
    """What stands before the names of the adapters' tensors."""


def layout_of(infos: Infos, where: str) -> Layout:
    """Sort a file's names into layers and check that their shapes fit together.

    where: the file's name, for the errors. Raises NptVizError for no NPT key at all, a missing or doubled
    tensor, and shapes that do not fit.
    """
    roles_of: dict[int, dict[str, _Targets]] = {}
    unused, base, aliases, prefixes = [], [], [], {}
    for name in infos:
        key = parsed_key(name)
        if key is None:
            (base if is_base_key(name) else unused).append(name)
            continue
        prefixes.setdefault(key.prefix, name)
        roles = roles_of.setdefault(key.layer, {}).setdefault(key.format, {}).setdefault(key.target, {})
        components = roles.setdefault(key.role, {})
        if key.component in components:
            if infos[name].shares_memory(infos[components[key.component]]):
                aliases.append(name)
                continue
            first = parsed_key(components[key.component])
            assert first is not None, "it was sorted in by its parts"
            if first.prefix != key.prefix:
                several = " and ".join(prefix or "no prefix" for prefix in (first.prefix, key.prefix))
                raise NptVizError(
                    f"{where}: holds several adapters of layer {key.layer} ({components[key.component]} and {name}), and "
                    f"nothing tells which is meant; save those with one prefix alone ({several})"
                )
            raise NptVizError(
                f"{where}: {components[key.component]} and {name} name one place of layer {key.layer} and hold two "
                "tensors; keep one of them"
            )
        components[key.component] = name
    if not roles_of:
        raise NptVizError(_nothing_recognised(where, infos, base))
    stored = {info.storage for name, info in infos.items() if name not in unused} - {None}
    aliases += [name for name in unused if infos[name].storage in stored]
    unused = [name for name in unused if name not in aliases]
    _refuse_unread(unused, where)
    layers = {layer: _layer_plan(layer, roles_of[layer], infos, where) for layer in sorted(roles_of)}
    _refuse_partial(layers.values(), where)
    _refuse_mixed_prefixes(layers.values(), where)
    widths = _checked_widths(layers.values(), infos, where)
    return Layout(
        layers,
        widths["d_model"],
        widths.get("d_ffn"),
        tuple(unused),
        tuple(base),
        tuple(aliases),
        tuple(sorted(prefixes)),
    )


def modulation(
    plan: TargetPlan, tensors: Mapping[str, tuple[Tensor, ...]], semantics: Semantics
) -> Modulation:
    """Modulation of one target, from its tensors as stored.

    tensors: argument -> one tensor a component.
    """
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
    if semantics.rule == "low_rank_pooled":
        return LowRankPooled(**single, scale=semantics.scale)
    return Additive(**single, factor=semantics.factor, scale=semantics.scale)


def _layer_plan(layer: int, formats: Mapping[str, _Targets], infos: Infos, where: str) -> LayerPlan:
    families = {
        (format_, target): _families(format_, roles, f"{where}: layer {layer} ({target})")
        for format_, targets in formats.items()
        for target, roles in targets.items()
    }
    possible = [{family.rule for family in each} for each in families.values()]
    if len(formats) > 1 or len({tuple(sorted(rules)) for rules in possible}) > 1:
        mixed = sorted(set().union(*possible))
        raise NptVizError(
            f"{where}: layer {layer} mixes the keys of several variants ({', '.join(mixed)}); "
            "a layer follows one rule: keep the tensors of one"
        )
    [(format_, targets)] = formats.items()
    plans: dict[Target, TargetPlan] = {
        target: _target_plan(families[format_, target], format_, targets[target], infos, where)
        for target in TARGETS
        if target in targets
    }
    return LayerPlan(layer, format_, tuple(family.rule for family in next(iter(families.values()))), plans)


def _families(format_: str, roles: _Roles, place: str) -> tuple[Family, ...]:
    """What these roles may mean; NptVizError where one is missing or they belong to several variants."""
    fitting = [family for family in FAMILIES[format_] if roles.keys() <= family.arguments.keys()]
    complete = [family for family in fitting if roles.keys() == family.arguments.keys()]
    if complete:
        return tuple(complete)
    present = ", ".join(key for components in roles.values() for key in components.values())
    if not fitting:
        raise NptVizError(f"{place} mixes the keys of several variants: {present}; keep those of one")
    wanting = dict.fromkeys(" and ".join(sorted(f.arguments.keys() - roles.keys())) for f in fitting)
    missing = " or ".join(wanting)
    raise NptVizError(
        f"{place} lacks {missing} beside {present}; an adapter needs all of its tensors: copy the complete file"
    )


def _target_plan(
    families: tuple[Family, ...], format_: str, roles: _Roles, infos: Infos, where: str
) -> TargetPlan:
    count = 1 + max(max(components) for components in roles.values())
    for role, components in roles.items():
        if len(components) < count:
            absent = next(j for j in range(count) if j not in components)
            raise NptVizError(
                f"{where}: {role} has no component {absent} beside {next(iter(components.values()))}, although the "
                f"target has {count} components; an adapter needs all of its tensors: copy the complete file"
            )
    keys = {role: tuple(roles[role][j] for j in range(count)) for role in families[0].arguments}
    for key in (key for group in keys.values() for key in group):
        info = infos[key]
        if info.dtype == "meta":
            raise NptVizError(
                f"{where}: {key} is a meta tensor: the file has its shape and no values; save the weights of a model that "
                "is loaded, not one made on the meta device or offloaded"
            )
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
    return TargetPlan(keys, families, transposed, ranks[0])


def _refuse_unread(unused: Iterable[str], where: str) -> None:
    """A name that is nearly an adapter's: opened without it, part of a layer would be missing unseen."""
    for name in unused:
        if (layer := looks_like_adapter(name)) is not None:
            raise NptVizError(
                f"{where}: {name} has the parts of an adapter's name, in no form that npt_viz knows; opened without it, a "
                f"part of layer {layer} would be missing: rename it as in docs/formats.md"
            )


def _refuse_partial(layers: Iterable[LayerPlan], where: str) -> None:
    """Half of an S1 adapter is a variant of its own, unless another layer of the file has both halves."""
    both = [plan for plan in layers if {"B_add", "B_mult"} <= plan.roles]
    for plan in layers:
        half = plan.roles & {"B_add", "B_mult"}
        if both and len(half) == 1:
            [missing], [present] = {"B_add", "B_mult"} - half, half
            raise NptVizError(
                f"{where}: layer {plan.layer} lacks {missing} beside {present}, and layer {both[0].layer} has both; "
                "an adapter needs all of its tensors: copy the complete file"
            )


def _refuse_mixed_prefixes(layers: Iterable[LayerPlan], where: str) -> None:
    for plan in layers:
        first = {parsed.prefix: key for key in reversed(plan.keys) if (parsed := parsed_key(key)) is not None}
        if len(first) > 1:
            raise NptVizError(
                f"{where}: layer {plan.layer} is put together from names with different prefixes ({', '.join(first.values())}); "
                "an adapter's tensors come from one training: keep those of one"
            )


def _checked_widths(layers: Iterable[LayerPlan], infos: Infos, where: str) -> dict[str, int]:
    """The sizes of d_model and d_ffn, each the same in all tensors of the file.

    Raises NptVizError naming the first tensor that disagrees with one before it.
    """
    known: dict[tuple, tuple[int, str]] = {}
    for plan in layers:
        for target, tensors in plan.targets.items():
            for argument, key in ((a, key) for a, keys in tensors.keys(plan.rule).items() for key in keys):
                shape = infos[key].shape[::-1] if tensors.transposed else infos[key].shape
                for axis, size in zip(_axes(argument, target), shape, strict=True):
                    own = (plan.layer, target) if axis == "rank" else ()
                    expected, witness = known.setdefault((axis, *own), (size, key))
                    if size != expected:
                        raise NptVizError(
                            f"{where}: {key} of shape {infos[key].shape} has {axis} {size}, but {witness} has "
                            f"{expected}; the tensors of a checkpoint fit one model: check how it was written"
                        )
    return {axis: size for (axis, *own), (size, _) in known.items() if not own}


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


def _nothing_recognised(where: str, infos: Mapping[str, TensorInfo], base: Collection[str]) -> str:
    if infos and len(base) == len(infos):
        return (
            f"{where}: holds tensors of a base model ({len(infos)}) and no adapter: give its folder as the base model, and "
            "open the file with the adapter as the checkpoint"
        )
    if any("lora_" in name for name in infos):
        return (
            f"{where}: holds a LoRA adapter, which is no NPT checkpoint: open the file with the NPT adapter"
        )
    examples = ", ".join(list(infos)[:3]) or "no tensor at all"
    return (
        f"{where}: no NPT adapter recognised among {len(infos)} tensors ({examples}…); expected keys such as "
        "layer_15_np.W_down, model.layers.15.adapter.A_proj.weight or layer_15_A: open the file with the adapter"
    )

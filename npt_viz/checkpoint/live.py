"""Adapters that are in memory, in somebody's own training: as a checkpoint that shares their tensors where it can."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from npt_viz.adapter import TARGETS, LayerAdapter, RankOneSum, Semantics
from npt_viz.adapter.semantics import Provenance
from npt_viz.checkpoint.keys import is_base_key
from npt_viz.checkpoint.layout import layout_of
from npt_viz.checkpoint.meaning import Choice, inferred
from npt_viz.checkpoint.opening import Checkpoint, check_fit, home_of
from npt_viz.checkpoint.source import CheckpointFiles
from npt_viz.checkpoint.store import MappingStore
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.finite import non_finite

Live = Mapping | nn.Module
"""Adapters in memory; see `live_checkpoint`."""

FACTORS = ("W_down", "W_a_up", "W_b_up")

NAME = "live adapters"

FORM = "{15: {'gate': (W_down, W_a_up, W_b_up)}}, tensors named as in docs/formats.md, or the module that has these"


def as_checkpoint(given: Checkpoint | Live, model: BaseModel) -> Checkpoint:
    """The checkpoint itself, or adapters in memory as one. Raises NptVizError where either is of another kind."""
    if not isinstance(model, BaseModel):
        raise NptVizError(
            f"the model is {_kind(model)}; open it first: npt_viz.open_model(model, tokenizer=tokenizer), or by its name"
        )
    return given if isinstance(given, Checkpoint) else live_checkpoint(given, model)


def live_checkpoint(
    adapters: Live, model: BaseModel | None, semantics: Choice | Mapping[int, Choice] | None = None
) -> Checkpoint:
    """Adapters in memory, on any device and in any dtype, as a checkpoint. They are never changed.

    adapters: layer -> target -> (W_down, W_a_up, W_b_up) of shapes (d_model, rank), (rank, in), (rank, out): tensors,
        nn.Linear modules, or for several components a list of them or one tensor with the components first. float32 on
        the layer's device is shared, so that what training does to it is seen here; anything else is copied as it is now.
        Or tensors by their names in a file of any format, as state_dict() gives them, or a module; these are copied.
    semantics: as in `open_checkpoint`; None is NPT's own definition, attention withheld.
    Raises NptVizError with the layer, target and factor that does not fit, and NotFiniteError for NaN.
    """
    given: Any = adapters.state_dict() if isinstance(adapters, nn.Module) else adapters
    if not isinstance(given, Mapping) or not given:
        raise NptVizError(f"the adapters are {_kind(given)}; give a checkpoint, or live ones as {FORM}")
    kinds = {type(key) for key in given}
    if kinds == {str}:
        found = _named(given, model)
        return found if semantics is None else found.with_semantics(semantics)
    if kinds != {int}:
        raise NptVizError(
            f"the adapters have the keys {', '.join(f'{key!r:.40}' for key in list(given)[:3])}; give {FORM}"
        )
    known = {layer: _layer(layer, given[layer], model) for layer in sorted(given)}
    checkpoint = Checkpoint.from_adapters(known, model, NAME, provenance="inferred from key names")
    if model is not None:
        check_fit(checkpoint.layout, model, NAME)
    if semantics is None:
        return checkpoint
    read = checkpoint.with_semantics(semantics)
    known = {layer: _read_as(each, read.semantics(layer)) for layer, each in known.items()}
    return Checkpoint.from_adapters(known, model, NAME)


def _named(tensors: Mapping[str, Any], model: BaseModel | None) -> Checkpoint:
    """Tensors by their names in a file; the base's own are passed over."""
    own = {key: value for key, value in tensors.items() if isinstance(value, Tensor) and not is_base_key(key)}
    for key, value in own.items():
        if value.ndim > 1:  # Not a counter of the training's.
            check_readable(key, value)
    store = MappingStore(own)
    layout = layout_of(store.infos, NAME)
    if model is not None:
        check_fit(layout, model, NAME)
    semantics = {layer: inferred(plan, None) for layer, plan in layout.layers.items()}
    origin: dict[int, Provenance] = dict.fromkeys(layout.layers, "inferred from key names")
    files = CheckpointFiles(store=store)
    return Checkpoint(files, layout, semantics, origin, name=NAME, format="memory", model=model)


def _layer(layer: int, targets: object, model: BaseModel | None) -> LayerAdapter:
    if isinstance(targets, LayerAdapter):
        shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in targets.parameters()}
        return copy.deepcopy(targets, shared).eval()
    if not isinstance(targets, Mapping) or not targets or not set(targets) <= set(TARGETS):
        raise NptVizError(
            f"layer {layer}: the adapter is {_kind(targets)}; give its targets among {', '.join(TARGETS)}, each with "
            f"({', '.join(FACTORS)}): {FORM}"
        )
    if model is not None:
        model.parts(layer)  # Raises for a layer that the model does not have.
    modulations = {target: _modulation(layer, target, targets[target], model) for target in targets}
    return LayerAdapter(layer, Semantics(), modulations).eval().requires_grad_(False)


def _modulation(layer: int, target: str, given: object, model: BaseModel | None) -> RankOneSum:
    where = f"layer {layer}, {target}"
    factors = [
        _stacked(f"{where}: {name}", each) for name, each in zip(FACTORS, _three(where, given), strict=True)
    ]
    _check_shapes(where, target, factors, model)
    for name, factor in zip(FACTORS, factors, strict=True):
        if (bad := non_finite(factor)) is not None:
            raise NotFiniteError(f"{where}: {name} holds {bad}; look at the step that made it so")
    home = factors[0].device if model is None else home_of(model, layer)
    return RankOneSum(*(factor.to(home, torch.float32) for factor in factors))


def check_readable(what: str, tensor: Tensor) -> None:
    """Raise NptVizError unless a tensor is dense, in memory and of real floats. what: its name, for the message."""
    if tensor.layout != torch.strided:
        kind, remedy = f"{str(tensor.layout).removeprefix('torch.')} (sparse)", "give tensor.to_dense()"
    elif tensor.is_meta:
        kind, remedy = "on the meta device", "load its values first"
    elif not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        remedy = "give its real part" if tensor.is_complex() else "give floats: float32, bfloat16 or float16"
    else:
        return
    raise NptVizError(f"{what} is {kind}, and a factor of an adapter is a dense matrix of floats; {remedy}")


def _three(where: str, given: object) -> list:
    """The three factors, in order."""
    if isinstance(given, Mapping | nn.Module):
        has = (
            given
            if isinstance(given, Mapping)
            else {n: getattr(given, n) for n in FACTORS if hasattr(given, n)}
        )
        missing = [name for name in FACTORS if name not in has]
        if missing:
            raise NptVizError(f"{where}: {missing[0]} is missing; an adapter has {', '.join(FACTORS)}")
        return [has[name] for name in FACTORS]
    if isinstance(given, Sequence) and len(given) == len(FACTORS):
        return list(given)
    raise NptVizError(
        f"{where}: {_kind(given)} in place of the three factors; give ({', '.join(FACTORS)}), or a mapping with these names"
    )


def _stacked(what: str, given: object) -> Tensor:
    """(component, …, …) of one factor, in the same memory where it is one tensor."""
    if isinstance(given, nn.Linear):
        if given.bias is not None:
            raise NptVizError(
                f"{what} is a Linear with a bias, which no NPT variant has; make it with bias=False"
            )
        given = given.weight.T
    if isinstance(given, Tensor):
        if given.ndim not in (2, 3) or 0 in given.shape:
            raise NptVizError(
                f"{what} has shape {tuple(given.shape)}; it is a matrix, or one with the components first"
            )
        check_readable(what, given)
        given = given.detach()
        return given if given.ndim == 3 else given[None]
    if (
        isinstance(given, Sequence | nn.ParameterList | nn.ModuleList)
        and not isinstance(given, str)
        and len(given)
    ):
        parts = [_stacked(f"{what}.{j}", each) for j, each in enumerate(given)]
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(tuple(part.shape[1:])) for part in parts)
            raise NptVizError(f"{what}: its components have the shapes {shapes}; components have one shape")
        return torch.cat([part.to(parts[0]) for part in parts])
    raise NptVizError(
        f"{what} is {_kind(given)}; give a tensor, an nn.Linear, or a list with one a component"
    )


def _check_shapes(where: str, target: str, factors: Sequence[Tensor], model: BaseModel | None) -> None:
    down, a_up, b_up = factors
    counts = [len(factor) for factor in factors]
    if len(set(counts)) > 1:
        raise NptVizError(
            f"{where}: {', '.join(FACTORS)} have {counts[0]}, {counts[1]} and {counts[2]} components; they need the same number"
        )
    d_model = down.shape[1] if model is None else model.d_model
    d_ffn = (a_up.shape[2] if target == "down" else b_up.shape[2]) if model is None else model.d_ffn
    inp, out = (
        (("d_ffn", d_ffn), ("d_model", d_model))
        if target == "down"
        else (("d_model", d_model), ("d_ffn", d_ffn))
    )
    rank = ("rank", down.shape[2])
    rules = ((("d_model", d_model), rank), (rank, inp), (rank, out))
    for name, factor, rule in zip(FACTORS, factors, rules, strict=True):
        shape, wanted = tuple(factor.shape[1:]), tuple(size for _, size in rule)
        if shape == wanted:
            continue
        words = " × ".join(f"{axis} {size}" for axis, size in rule)
        turned = (
            "; turned it fits: give its transpose, or the nn.Linear itself" if shape[::-1] == wanted else ""
        )
        raise NptVizError(f"{where}: {name} has shape {shape}; it has to be {words}{turned}")


def _read_as(adapter: LayerAdapter, semantics: Semantics) -> LayerAdapter:
    """The same tensors with another forward pass."""
    for modulation in adapter.learned.values():
        modulation.scale = semantics.scale
    parts: dict[str, nn.Module] = dict(adapter.modulations.items())
    return LayerAdapter(adapter.layer, semantics, parts).eval().requires_grad_(False)


def _kind(given: object) -> str:
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)}"
    if isinstance(given, Mapping):
        return (
            f"a mapping with the keys {', '.join(f'{key!r:.30}' for key in list(given)[:4])}"
            if given
            else "an empty mapping"
        )
    return f"{type(given).__name__}" + (f" of length {len(given)}" if isinstance(given, Sequence) else "")

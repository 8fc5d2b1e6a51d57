"""What the NPT layers read, wrote and should have written, in both modes from one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from npt_viz.adapter import LayerAdapter, mlp_trace
from npt_viz.capture.running import LayerRecord, Pass, Positions, forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor

SINK_FACTOR = 10.0
"""An attention sink's residual norm exceeds this many times the median of its sequence."""

BASE, NPT = 0, 1


@dataclass(frozen=True)
class LayerActivations:
    """One layer of one prompt in one mode; float32, or float64 where the model is."""

    hidden: Float[Tensor, "token model"]
    """h"""
    attention: Float[Tensor, "token model"]
    """a, as the adapter reads it"""
    mlp_input: Float[Tensor, "token model"]
    """z, or z_C where the attention path is standard"""
    output: Float[Tensor, "token model"]
    """ŷ"""
    unmodulated: Float[Tensor, "token model"]
    """MLP(z)"""
    target: Float[Tensor, "token model"]
    """What the base's layer writes"""
    base_attention: Float[Tensor, "token model"]
    """a of the base model: the part of the target that is to be replaced"""

    def rows(self, index) -> "LayerActivations":
        return LayerActivations(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Activations:
    """Layer -> activations, for each mode."""

    local: Mapping[int, LayerActivations]
    propagated: Mapping[int, LayerActivations]
    is_sink: Tensor
    """(token,) bool, in any of the layers"""


@torch.no_grad()
def activations(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    token_ids: Sequence[int],
    *,
    positions: Positions = "deployed",
    seen: Pass | None = None,
) -> Activations:
    """One pass of the base model and of the NPT model beside it; layers above the last NPT layer do not run.

    seen: such a pass that is at hand, as `inspect` keeps it; then none is run.
    """
    ids = torch.tensor([list(token_ids)])
    with model.lock:
        seen = seen or forward_pass(
            model,
            ids,
            [{}, dict(adapters)],
            record=sorted(adapters),
            positions=positions,
            stop_after=max(adapters),
        )
        both = [lane_activations(model, adapters, seen, lane) for lane in (BASE, NPT)]
    sinks = [sinks_of(layer.hidden) for layer in both[BASE].values()]
    return Activations(*both, is_sink=torch.stack([s.cpu() for s in sinks]).any(0))


@torch.no_grad()
def lane_activations(
    model: BaseModel, adapters: Mapping[int, LayerAdapter], seen: Pass, lane: int
) -> dict[int, LayerActivations]:
    """One lane of a pass that recorded these layers; the caller holds the lock."""
    return {layer: _of_lane(model, adapters[layer], seen.layers[layer], lane) for layer in sorted(adapters)}


@torch.no_grad()
def local_activations(
    model: BaseModel,
    adapter: LayerAdapter,
    token_ids: Sequence[int],
    *,
    positions: Positions = "deployed",
) -> LayerActivations:
    """One layer fed the base model's own h and a; layers above it do not run."""
    ids, layer = torch.tensor([list(token_ids)]), adapter.layer
    with model.lock:
        seen = forward_pass(model, ids, record=[layer], positions=positions, stop_after=layer)
        return _of_lane(model, adapter, seen.layers[layer], BASE)


def sinks_of(hidden: Float[Tensor, "token model"]) -> Tensor:
    """(token,) bool: whose residual norm dwarfs the others."""
    norm = hidden.norm(dim=-1)
    return norm > SINK_FACTOR * norm.median()


def _of_lane(model: BaseModel, adapter: LayerAdapter, record: LayerRecord, lane: int) -> LayerActivations:
    parts = model.parts(adapter.layer)
    hidden, attention = record.hidden[lane], record.attention[lane]
    mlp_input = parts.mlp_norm(hidden + attention if adapter.attention == "standard" else hidden)
    plain = mlp_trace(parts.mlp, mlp_input)
    output = adapter.mlp(parts.mlp, attention, mlp_input, plain).output
    # bf16 sums of 600 squares are worth little; a float64 model stays float64.
    wide = torch.promote_types(hidden.dtype, torch.float32)
    base_attention, target = record.attention[BASE].to(wide), record.mlp_output[BASE].to(wide)
    if adapter.attention == "withheld":
        target = target + base_attention
    return LayerActivations(
        hidden=hidden.to(wide),
        attention=attention.to(wide),
        mlp_input=mlp_input.to(wide),
        output=output.to(wide),
        unmodulated=plain.output.to(wide),
        target=target,
        base_attention=base_attention,
    )

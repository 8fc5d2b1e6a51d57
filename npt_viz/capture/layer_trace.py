"""What one layer saw and wrote on one text: the only maker of z, z_C, target, ŷ and attention sinks.

Symbols as in docs/mathematics.md §1. Model-wide tensors are kept; those of width d_ffn are handed over and let go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from npt_viz.adapter import LayerAdapter, MlpTrace, mlp_reads_attention, mlp_trace, stream_keeps_attention
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.running import LayerRecord, Pass, forward_pass
from npt_viz.model.base import BaseModel, LayerParts
from npt_viz.question import Mode, Positions, check_mode
from npt_viz.shapes import Float, Tensor

SINK_FACTOR = 10.0
"""An attention sink's residual norm exceeds this many times the median of its text (docs/mathematics.md §8)."""

Reads = Literal["z_C", "z"]
"""Which MLP input counts: z_C = norm(h + a), what a standard layer reads; z = norm(h), what an NPT layer reads."""

BASE, NPT = 0, 1
"""The two lanes of a pass: the base model, and the NPT model beside it."""


def lane_of(mode: Mode) -> int:
    """The lane that a mode reads: BASE for local, NPT for propagated."""
    check_mode(mode)
    return BASE if mode == "local" else NPT


def attention_sinks(hidden: Float[Tensor, "token model"]) -> Tensor:
    """(token,) bool, on the CPU: tokens of one text whose ‖h‖ exceeds SINK_FACTOR times the median.

    The median is the lower one of an even number of tokens, so that in a text of two tokens one can be the sink.
    """
    norm = hidden.float().norm(dim=-1)
    return (norm > SINK_FACTOR * norm.median()).cpu()


def sinks_of_any(streams: Iterable[Float[Tensor, "token model"]]) -> Tensor:
    """(token,) bool: attention sinks of any of these layers."""
    return torch.stack([attention_sinks(hidden) for hidden in streams]).any(0)


def mlp_input_of(parts: LayerParts, hidden: Tensor, attention: Tensor, path: str) -> Tensor:
    """What the MLP reads: z = norm(h), or z_C = norm(h + a) where attention enters the MLP (see Semantics)."""
    return parts.mlp_norm(hidden + attention if mlp_reads_attention(path) else hidden)


def target_of(path: str, attention: Tensor, mlp_output: Tensor) -> Tensor:
    """What the modulated MLP has to write: MLP(z_C) where a is added to the stream, else a + MLP(z_C).

    attention, mlp_output: the base model's.
    """
    return mlp_output if stream_keeps_attention(path) else attention + mlp_output


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What a layer reads at the tokens of one text, whatever its attention path; float32."""

    attention: Float[Tensor, "token model"]
    """a"""

    z: Float[Tensor, "token model"]
    """norm(h)"""

    z_C: Float[Tensor, "token model"]
    """norm(h + a)"""

    is_sink: Tensor
    """(token,) bool: attention sinks of the base model's stream."""

    def mlp_input(self, reads: Reads) -> Float[Tensor, "token model"]:
        """z_C or z."""
        return self.z_C if reads == "z_C" else self.z


def layer_inputs(model: BaseModel, layer: int, record: LayerRecord, lane: int = BASE) -> LayerInputs:
    """The inputs of one layer that a pass recorded in a lane (BASE is the first); the caller holds the lock."""
    hidden, attention = record.hidden[lane], record.attention[lane]
    parts = model.parts(layer)
    return LayerInputs(
        attention=attention.float(),
        z=mlp_input_of(parts, hidden, attention, "withheld").float(),
        z_C=mlp_input_of(parts, hidden, attention, "standard").float(),
        is_sink=attention_sinks(record.hidden[BASE]),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTrace:
    """One NPT layer at the tokens of a text; float32, or float64 where the model is.

    What needs the inside of the MLP as well (LayerView, Student) is a trace with more columns.
    """

    hidden: Float[Tensor, "token model"]
    """h, the stream entering the layer."""

    attention: Float[Tensor, "token model"]
    """a, as the adapter reads it."""

    mlp_input: Float[Tensor, "token model"]
    """z, or z_C where the MLP reads attention."""

    output: Float[Tensor, "token model"]
    """ŷ, what the modulated MLP writes."""

    unmodulated: Float[Tensor, "token model"]
    """The same MLP on the same input with its modulation off."""

    target: Float[Tensor, "token model"]
    """What the modulated MLP has to write for the layer to equal the base model's (`target_of`)."""

    base_attention: Float[Tensor, "token model"]
    """a of the base model: the part of the target that is to be replaced."""

    def __len__(self) -> int:
        return self.hidden.shape[0]

    @property
    def columns(self) -> dict[str, Tensor]:
        """Name -> tensor with one row a token."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def rows(self: "Trace", index) -> "Trace":
        """The same layer at some of the tokens."""
        return replace(self, **{name: column[index] for name, column in self.columns.items()})

    def joined(self: "Trace", *others: "Trace") -> "Trace":
        """The tokens of several texts in one."""
        return replace(
            self,
            **{name: torch.cat([t.columns[name] for t in (self, *others)]) for name in self.columns},
        )


Trace = TypeVar("Trace", bound=LayerTrace)


class LayerRun(NamedTuple):
    """A layer's trace and the insides of its MLP, in the dtype the model runs in."""

    trace: LayerTrace
    plain: MlpTrace
    """The base's MLP on the layer's input."""
    modulated: MlpTrace
    adapter: LayerAdapter
    """As it ran on this text (`LayerAdapter.of_text`)."""


def layer_run(
    model: BaseModel,
    adapter: LayerAdapter,
    record: LayerRecord,
    lane: int,
    tokens: slice = slice(None),
    plain: MlpTrace | None = None,
) -> LayerRun:
    """Run one layer's MLP, with and without its modulation, on what a pass recorded; the caller holds the lock.

    record: of lanes BASE and, for another `lane`, that one.
    plain: the base's MLP on this layer's input where it is known.
    Raises NotFiniteError where the layer's MLP overflows.
    """
    parts = model.parts(adapter.layer)
    adapter = adapter.of_text(record.attention[lane])
    hidden, attention = record.hidden[lane, tokens], record.attention[lane, tokens]
    mlp_input = mlp_input_of(parts, hidden, attention, adapter.attention)
    plain = plain or mlp_trace(parts.mlp, mlp_input)
    modulated = adapter.mlp(parts.mlp, attention, mlp_input, plain)
    # Of the base's stream, too: there a layer may overflow that the running NPT model keeps below it.
    refuse_overflow(model, adapter.layer, plain.output, "the MLP's output without modulation")
    refuse_overflow(model, adapter.layer, modulated.output, "the modulated MLP's output", adapter)
    # bf16 sums of 600 squares are worth little; a float64 model stays float64.
    wide = torch.promote_types(hidden.dtype, torch.float32)
    base_attention = record.attention[BASE, tokens].to(wide)
    trace = LayerTrace(
        hidden=hidden.to(wide),
        attention=attention.to(wide),
        mlp_input=mlp_input.to(wide),
        output=modulated.output.to(wide),
        unmodulated=plain.output.to(wide),
        target=target_of(adapter.attention, base_attention, record.mlp_output[BASE, tokens].to(wide)),
        base_attention=base_attention,
    )
    return LayerRun(trace, plain, modulated, adapter)


@dataclass(frozen=True, eq=False)
class Traces:
    """Layer -> trace, in both modes."""

    local: Mapping[int, LayerTrace]
    propagated: Mapping[int, LayerTrace]
    is_sink: Tensor
    """(token,) bool: attention sinks of the base model's stream in any of the layers."""

    def of(self, mode: Mode) -> Mapping[int, LayerTrace]:
        """The traces of one mode."""
        return (self.local, self.propagated)[lane_of(mode)]


@torch.no_grad()
def traces(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    token_ids: Sequence[int],
    *,
    positions: Positions = "deployed",
    kept_pass: Pass | None = None,
) -> Traces:
    """One pass of the base model and of the NPT model beside it; layers above the last NPT layer do not run.

    kept_pass: such a pass that is at hand, as `inspect` keeps it; then none is run.
    """
    with model.lock:
        recorded = kept_pass or forward_pass(
            model,
            torch.tensor([list(token_ids)]),
            [{}, dict(adapters)],
            record=sorted(adapters),
            positions=positions,
            stop_after=max(adapters),
        )
        local, propagated = (lane_traces(model, adapters, recorded, lane) for lane in (BASE, NPT))
    return Traces(local, propagated, sinks_of_any(trace.hidden for trace in local.values()))


@torch.no_grad()
def lane_traces(
    model: BaseModel, adapters: Mapping[int, LayerAdapter], recorded: Pass, lane: int
) -> dict[int, LayerTrace]:
    """One lane of a pass that recorded these layers; the caller holds the lock."""
    return {
        layer: layer_run(model, adapters[layer], recorded.layers[layer], lane).trace
        for layer in sorted(adapters)
    }


@torch.no_grad()
def local_trace(
    model: BaseModel,
    adapter: LayerAdapter,
    token_ids: Sequence[int],
    *,
    positions: Positions = "deployed",
) -> LayerTrace:
    """One layer fed the base model's own h and a; layers above it do not run."""
    ids, layer = torch.tensor([list(token_ids)]), adapter.layer
    with model.lock:
        recorded = forward_pass(model, ids, record=[layer], positions=positions, stop_after=layer)
        return layer_run(model, adapter, recorded.layers[layer], BASE).trace


def fit_columns(
    output: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
) -> dict[str, np.ndarray]:
    """relative_error, cosine, magnitude_ratio and recovered, each (token,) float32 (docs/mathematics.md §3).

    `recovered` is NaN where no modulation is needed, because 0/0 would hide it.
    """
    error = (output - target).norm(dim=-1)
    unmodulated_error = (unmodulated - target).norm(dim=-1)
    size = target.norm(dim=-1)
    columns = {
        "relative_error": error / size,
        "cosine": torch.cosine_similarity(output, target, dim=-1),
        "magnitude_ratio": output.norm(dim=-1) / size,
        "recovered": 1 - (error / unmodulated_error.where(unmodulated_error > 0, torch.nan)) ** 2,
    }
    return {name: as_numpy(column) for name, column in columns.items()}


def fit_of(
    adapter: LayerAdapter, trace: LayerTrace, output: Float[Tensor, "token model"] | None = None
) -> dict[str, np.ndarray]:
    """`fit_columns` of a layer's ŷ, or of another output of it.

    No share is recovered where attention keeps its standard path: with its modulation off such a layer is the base's
    own, and what is left is rounding.
    """
    fit = fit_columns(trace.output if output is None else output, trace.unmodulated, trace.target)
    if adapter.attention == "standard":
        fit["recovered"][:] = np.nan
    return fit


def as_numpy(values: Tensor) -> np.ndarray:
    """float32, on the CPU."""
    return values.detach().float().cpu().numpy()

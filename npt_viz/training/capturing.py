"""Teacher activations: captured once from the base model in chunks, then trained on many times.

They stay in memory up to a budget; beyond it they go to a memory-mapped file that vanishes with the process.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from npt_viz.adapter import MlpTrace, mlp_trace
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.layer_trace import attention_sinks, mlp_input_of
from npt_viz.capture.running import Lane, LayerRecord, forward_pass
from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.model.base import BaseModel
from npt_viz.model.memory import free_bytes
from npt_viz.progress import Progress, no_progress
from npt_viz.question import Positions
from npt_viz.shapes import Float, Int, Tensor

CHUNK_TOKENS = 2048
"""Tokens of one pass through the base model."""

PROJECTIONS_BYTES = 2 * 2**30
"""Of W_g z and W_u z that are kept at most: they only save time, and are larger than all the rest."""

PRINCIPAL_DIRECTIONS = 10
"""Leading directions of h that the orthogonality loss looks at, as published."""


@dataclass(frozen=True)
class LayerTokens:
    """Inputs and outputs of one base layer at every token, in the model's dtype."""

    hidden: Float[Tensor, "token model"]
    """h"""
    attention: Float[Tensor, "token model"]
    """a"""
    mlp_with_attention: Float[Tensor, "token model"]
    """MLP(z_C), what the base's MLP wrote. On a stream that layers below have changed: what the MLP has to write
    beside a for the stream to come out as the base's."""
    is_sink: Tensor
    """(token,) bool: as `attention_sinks` finds them in each sequence"""
    unmodulated: Float[Tensor, "token model"] | None = None
    """MLP(z) with z from h alone, where it is known: saves every step a third of the frozen products."""
    gate: Float[Tensor, "token ffn"] | None = None
    """W_g z, where it was kept: with `up` it saves every step two of the three frozen products."""
    up: Float[Tensor, "token ffn"] | None = None
    """W_u z"""

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def rows(self, index: slice | Int[Tensor, "row"]) -> "LayerTokens":
        def selected(column: Tensor) -> Tensor:
            return (
                column[index] if isinstance(index, slice) else column.index_select(0, index.to(column.device))
            )

        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        columns |= {name: selected(c) for name, c in columns.items() if c is not None}
        return LayerTokens(**columns)

    @cached_property
    def principal(self) -> Float[Tensor, "model q"]:
        """The leading principal directions of h, not centred: the top eigenvectors of hᵀh."""
        moment = torch.zeros(self.hidden.shape[1], self.hidden.shape[1], dtype=torch.float64)
        for chunk in self.hidden.split(CHUNK_TOKENS):
            moment += (chunk.float().T @ chunk.float()).cpu()
        _, vectors = torch.linalg.eigh(moment)
        return vectors.flip(-1)[:, :PRINCIPAL_DIRECTIONS].float()


@dataclass(frozen=True, eq=False)
class Capture:
    """Activations of some layers on some text; the tokens of all sequences one after the other."""

    layers: Mapping[int, LayerTokens]
    starts: tuple[int, ...]
    """The first row of every sequence, and the number of rows."""
    final: Float[Tensor, "token model"] | None = None
    """After the final norm, where it was asked for."""
    arguments: Mapping[int, Mapping[str, dict]] = field(default_factory=dict)
    """Sequence length -> module name -> what the model passes to it beside the stream (see LayersAbove)."""
    in_file: bool = False
    """Whether the activations went to a file rather than memory."""

    def rows_of(self, sequences: Sequence[int]) -> Int[Tensor, "token"]:
        """The rows of some sequences, one sequence after the other."""
        return torch.cat([torch.arange(self.starts[i], self.starts[i + 1]) for i in sequences])


def captured(
    model: BaseModel,
    sequences: Sequence[Int[Tensor, "_"]],
    layers: Sequence[int],
    *,
    positions: Positions = "deployed",
    changed: Lane | None = None,
    base: Capture | None = None,
    to_the_top: bool = False,
    projections: bool = False,
    budget: int | None = None,
    progress: Progress = no_progress,
) -> Capture:
    """Run the model over the text and keep what the layers see; layers above the last do not run.

    changed: NPT layers that run below the captured ones. Then `base` is the capture of the same text without them,
        and mlp_with_attention is what makes the stream the base's again: h_base + … − h − a.
    to_the_top: also keep the final states and what LayersAbove needs to run the layers above with gradients.
    projections: also keep W_g z and W_u z, where they take no more than PROJECTIONS_BYTES.
    budget: bytes of memory for the activations; half of what is free by default.
    progress: called with the share of the tokens done; may raise to stop.

    Raises NptVizError where neither memory nor disk has room, NotFiniteError for activations that are not finite.
    """
    lengths = [len(ids) for ids in sequences]
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    # Not by what is free now: kept or computed again, the last bits differ, and a seed has to give the same numbers.
    projections = projections and keeps_projections(model, starts[-1], len(layers))
    room = _Room(model, starts[-1], _widths(model, len(layers), to_the_top, projections), budget)
    kept = {
        layer: LayerTokens(
            hidden=room.tensor(),
            attention=room.tensor(),
            mlp_with_attention=room.tensor(),
            is_sink=torch.zeros(starts[-1], dtype=torch.bool),
            unmodulated=room.tensor(),
            gate=room.tensor(model.d_ffn) if projections else None,
            up=room.tensor(model.d_ffn) if projections else None,
        )
        for layer in layers
    }
    final = room.tensor() if to_the_top else None
    arguments: dict[int, dict[str, dict]] = {}
    done = 0
    for group in _groups(lengths):
        length = lengths[group[0]]
        with model.lock, ExitStack() as hooks:
            if to_the_top and length not in arguments:
                arguments[length] = {}
                for handle in _recorded_arguments(model, min(layers), arguments[length]):
                    hooks.callback(handle.remove)
            recorded = forward_pass(
                model,
                torch.stack([sequences[i] for i in group]),
                [changed or {}],
                record=layers,
                positions=positions,
                stop_after=None if to_the_top else max(layers),
            )
            unmodulated = {layer: _unmodulated(model, layer, recorded.layers[layer]) for layer in layers}
        for row, i in enumerate(group):
            span = slice(starts[i], starts[i + 1])
            for layer, record in recorded.layers.items():
                _keep(kept[layer], span, record, row, None if base is None else base.layers[layer])
                kept[layer].unmodulated[span] = unmodulated[layer].output[row]
                if projections:
                    kept[layer].gate[span], kept[layer].up[span] = (
                        unmodulated[layer].gate[row],
                        unmodulated[layer].up[row],
                    )
            if final is not None:
                final[span] = recorded.final[row]
        done += length * len(group)
        progress("capturing activations of the base model", done / starts[-1])
    return Capture(kept, tuple(starts), final, arguments, room.in_file)


def keeps_projections(model: BaseModel, n_tokens: int, n_layers: int) -> bool:
    """Whether W_g z and W_u z of so much text take no more than PROJECTIONS_BYTES."""
    return 2 * n_layers * n_tokens * model.d_ffn * model.dtype.itemsize <= PROJECTIONS_BYTES


def capture_bytes(
    model: BaseModel, n_tokens: int, n_layers: int, *, to_the_top: bool = False, projections: bool = False
) -> int:
    """Bytes of the activations that `captured` keeps, given the same wishes."""
    projections = projections and keeps_projections(model, n_tokens, n_layers)
    return n_tokens * sum(_widths(model, n_layers, to_the_top, projections)) * model.dtype.itemsize


def _widths(model: BaseModel, n_layers: int, to_the_top: bool, projections: bool) -> list[int]:
    """Widths of all columns of a capture."""
    return [model.d_model] * (4 * n_layers + to_the_top) + [model.d_ffn] * (2 * n_layers * projections)


def _keep(tokens: LayerTokens, span: slice, record, row: int, base: LayerTokens | None) -> None:
    hidden, attention, mlp_with_attention = record.hidden[row], record.attention[row], record.mlp_output[row]
    if base is not None:
        mlp_with_attention = corrected(base.rows(span), hidden, attention).mlp_with_attention
    tokens.hidden[span], tokens.attention[span], tokens.mlp_with_attention[span] = (
        hidden,
        attention,
        mlp_with_attention,
    )
    tokens.is_sink[span] = attention_sinks(hidden)


@torch.no_grad()
def _unmodulated(model: BaseModel, layer: int, record: LayerRecord) -> MlpTrace:
    parts = model.parts(layer)
    trace = mlp_trace(parts.mlp, mlp_input_of(parts, record.hidden, record.attention, "withheld"))
    refuse_overflow(model, layer, trace.output, "the MLP's output without attention")
    return trace


def corrected(
    base: LayerTokens, hidden: Float[Tensor, "token model"], attention: Float[Tensor, "token model"]
) -> LayerTokens:
    """The base's tokens on another stream: what the MLP has to write there for the stream to be the base's again."""
    h, a, mlp_with_attention = (t.to(hidden) for t in (base.hidden, base.attention, base.mlp_with_attention))
    # In this order: the stream of an attention sink is thousands of times larger than the difference.
    mlp_with_attention = mlp_with_attention + (h - hidden) + (a - attention)
    return LayerTokens(hidden, attention, mlp_with_attention, base.is_sink)


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of sequences of one length that run together; the first of each length runs alone.

    Alone, because what a batch of one is given (masks, positions) fits a batch of any size.
    """
    by_length: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        by_length.setdefault(length, []).append(i)
    for length, members in by_length.items():
        yield members[:1]
        size = max(1, CHUNK_TOKENS // length)
        for start in range(1, len(members), size):
            yield members[start : start + size]


def _recorded_arguments(model: BaseModel, lowest: int, into: dict[str, dict]):
    """Keep what every layer from `lowest` up, and its attention, is called with beside the stream."""

    def keep(name: str):
        def hook(module, args, kwargs):
            into[name] = {key: value for key, value in kwargs.items() if key != "hidden_states"}

        return hook

    for layer in range(lowest, model.n_layers):
        parts = model.parts(layer)
        yield parts.layer.register_forward_pre_hook(keep(f"layer {layer}"), with_kwargs=True)
        yield parts.attention.register_forward_pre_hook(keep(f"attention {layer}"), with_kwargs=True)


class _Room:
    """Storage of activations: the model's GPU if they fit well, memory within the budget, else a file."""

    def __init__(self, model: BaseModel, n_tokens: int, widths: Sequence[int], budget: int | None) -> None:
        """widths: widths of all tensors that will be made."""
        self.n_tokens, self.width, self.dtype = n_tokens, model.d_model, model.dtype
        needed = n_tokens * sum(widths) * model.dtype.itemsize
        cpu = torch.device("cpu")
        fits_gpu = budget is None and model.device.type == "cuda" and needed < free_bytes(model.device) // 2
        self.device = model.device if fits_gpu else cpu
        self.in_file = not fits_gpu and needed > (free_bytes(cpu) // 2 if budget is None else budget)
        self.needed = needed

    def tensor(self, width: int | None = None) -> Float[Tensor, "token width"]:
        """A column for all tokens, as wide as the stream unless told otherwise."""
        shape = (self.n_tokens, width or self.width)
        if not self.in_file:
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        descriptor, name = tempfile.mkstemp(prefix="npt_viz-activations-")
        try:
            # Room is taken now: a map of a file that cannot grow would kill the process later.
            os.posix_fallocate(descriptor, 0, math.prod(shape) * self.dtype.itemsize)
            return torch.from_file(name, shared=True, size=math.prod(shape), dtype=self.dtype).view(shape)
        except OSError as error:
            raise NptVizError(
                f"the captured activations need {gigabytes(self.needed)}, more than memory allows, and "
                f"{Path(name).parent} has no room for them ({error.strerror}); use less text or fewer layers, or set "
                "TMPDIR to a folder with room"
            ) from error
        finally:
            os.close(descriptor)
            # The map keeps the file alive; without a name it vanishes with the process.
            with suppress(OSError):
                os.unlink(name)

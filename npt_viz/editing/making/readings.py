"""Readings: attention output and MLP inputs of a layer at the tokens of some texts, from which updates are made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from npt_viz.adapter import TARGETS, Target
from npt_viz.capture.layer_trace import LayerInputs, Reads, layer_inputs
from npt_viz.capture.running import Lane, forward_pass
from npt_viz.editing.updates import Place
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode, text_ids
from npt_viz.question import Positions
from npt_viz.results.inspection import Token
from npt_viz.shapes import Float, TokenIds

WINDOW = 512
"""Tokens of a long reference text that run together."""


@torch.no_grad()
def layer_readings(
    model: BaseModel,
    token_ids: TokenIds,
    layers: Sequence[int],
    *,
    lane: Lane | None = None,
    positions: Positions = "deployed",
) -> dict[int, LayerInputs]:
    """Layer -> its inputs, in the base model or in one lane. token_ids: (1, token)."""
    lanes: list[Lane] = [{}] if lane is None else [{}, lane]
    with model.lock:
        recorded = forward_pass(
            model, token_ids, lanes, record=layers, positions=positions, stop_after=max(layers)
        )
        return {layer: layer_inputs(model, layer, recorded.layers[layer], len(lanes) - 1) for layer in layers}


@dataclass(frozen=True, eq=False)
class ReferenceInputs:
    """Inputs of some projections over some texts: all tokens in one list, without attention sinks."""

    inputs: Mapping[Place, Float[Tensor, "n inp"]]
    """float32, on the CPU"""
    texts: tuple[tuple[Token, ...], ...]
    """The texts as the model read them, long ones in windows."""
    tokens: tuple[tuple[int, int], ...]
    """(text, position) of every row of the inputs"""

    def __len__(self) -> int:
        return len(self.tokens)


@torch.no_grad()
def reference_inputs(
    model: BaseModel,
    texts: Sequence[str],
    places: Sequence[Place],
    *,
    reads: Reads = "z_C",
    positions: Positions = "deployed",
    with_sinks: bool = False,
) -> ReferenceInputs:
    """Run the texts through the base model and record the inputs of each projection."""
    layers = sorted({place.layer for place in places})
    collected: dict[Place, list[Tensor]] = {place: [] for place in places}
    pieces, tokens = [], []
    for ids in windows(model, texts):
        readings = layer_readings(model, torch.tensor([ids]), layers, positions=positions)
        is_sink = torch.stack([reading.is_sink for reading in readings.values()]).any(0)
        kept = torch.ones_like(is_sink) if with_sinks else ~is_sink
        tokens += [(len(pieces), int(t)) for t in kept.nonzero()[:, 0]]
        pieces.append(encode(model, ids).pieces)
        for layer, reading in readings.items():
            inputs = projection_inputs(model, layer, reading.mlp_input(reads)[kept])
            for target in TARGETS:
                if (layer, target) in collected:
                    collected[Place(layer, target)].append(inputs[target].cpu())
    return ReferenceInputs(
        inputs={place: torch.cat(parts) for place, parts in collected.items()},
        texts=tuple(pieces),
        tokens=tuple(tokens),
    )


def windows(model: BaseModel, texts: Sequence[str], length: int = WINDOW) -> Iterator[list[int]]:
    """Token ids of every text, in pieces of at most `length` tokens; a last piece of one token is left out."""
    length = min(length, model.context_length)
    for text in texts:
        if not text:
            raise NptVizError("a reference text is empty; give text, or leave it out")
        ids = text_ids(model, text)
        for start in range(0, len(ids), length):
            window = ids[start : start + length]
            if len(window) > 1 or len(ids) == 1:
                yield window


def projection_inputs(
    model: BaseModel,
    layer: int,
    mlp_input: Float[Tensor, "token model"],
    effects: Mapping[Target, Tensor] | None = None,
) -> dict[Target, Float[Tensor, "token _"]]:
    """Inputs of gate, up and down for one MLP input; effects are added to the outputs of gate and up on the way."""
    parts = model.parts(layer)
    x = mlp_input.to(model.dtype)
    effects = effects or {}
    gate = parts.gate(x).float() + effects.get("gate", 0.0)
    up = parts.up(x).float() + effects.get("up", 0.0)
    return {"gate": mlp_input, "up": mlp_input, "down": F.silu(gate) * up}

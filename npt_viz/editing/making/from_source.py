"""Updates from a source text, by one of the rules."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from npt_viz.adapter import Additive, LayerAdapter
from npt_viz.arguments import checked
from npt_viz.capture.inspection import layers_of, pooling_notes
from npt_viz.capture.layer_trace import LayerInputs
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.editing.cases import whitening_texts
from npt_viz.editing.making.keys import without_effect_on
from npt_viz.editing.making.readings import (
    ReferenceInputs,
    layer_readings,
    projection_inputs,
    reference_inputs,
)
from npt_viz.editing.making.rules import (
    UpdateRule,
    exact_layer_factors,
    keyed_layer_factors,
    npt_layer_factors,
    rule_of,
)
from npt_viz.editing.updates import Factors, Number, Origin, Place, Update, check_alpha
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import Encoded, encode

Tokens = int | Sequence[int] | str
"""A position in the source, negative from its end, or several; 'all' are those that are no attention sink."""


@torch.no_grad()
@checked
def update_from(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    source: str | Sequence[int],
    *,
    layer: int | Sequence[int],
    token: Tokens = -1,
    alpha: Number = 1.0,
    rule: UpdateRule | str = "npt",
    reference: ReferenceInputs | None = None,
) -> Update:
    """Make an update from the modulation at some tokens of `source` in some layers.

    The source always runs through the base model without earlier edits, so that edits do not depend on the order
    in which they are made. reference: what the edited projections read over the rule's reference texts, where it is
    known already. Raises NptVizError for a layer, token or component that does not exist.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    check_alpha(alpha)
    rule = rule_of(rule)
    layers = layers_of(checkpoint, [layer] if isinstance(layer, int) else list(layer))
    adapters = {each: checkpoint.adapter(each) for each in layers}
    if rule.name == "npt" and (additive := _additive(adapters)):
        rule, notes = replace(rule, name="minimum_norm"), [_bias_note(adapters[additive[0]])]
    else:
        notes = []
    encoded = encode(model, source)
    with model.lock:
        chosen, at_source, adapters = _at_source(model, adapters, encoded, token, rule)
        factors, reasons = _factors(model, adapters, at_source, rule, reference)
    notes += pooling_notes(adapters)
    if any(bool(reading.is_sink.any()) for reading in at_source.values()):
        notes.append(
            "a chosen token is an attention sink, whose modulation is unlike that of any other token"
        )
    origin = Origin(
        rule=rule.name,
        prompt=source if isinstance(source, str) else "".join(piece.glyph for piece in encoded.pieces),
        layers=tuple(layers),
        tokens=tuple(chosen),
        glyphs=tuple(encoded.pieces[t].glyph for t in chosen),
        checkpoint=checkpoint.name,
        checkpoint_fingerprint=checkpoint_fingerprint(checkpoint, layers),
        combine=rule.combine,
        components=rule.components,
        positions=rule.positions,
        mode=rule.mode,
        details=(*notes, *reasons),
    )
    return Update(factors=factors, alpha=float(alpha), base=model.fingerprint(layers), origins=(origin,))


@torch.no_grad()
def source_readings(
    model: BaseModel,
    checkpoint: Checkpoint,
    source: str | Sequence[int],
    layers: Sequence[int],
    token: Tokens,
    rule: UpdateRule,
) -> dict[int, LayerInputs]:
    """Readings of some layers at the chosen tokens of the source."""
    adapters = {each: checkpoint.adapter(each) for each in layers_of(checkpoint, layers)}
    with model.lock:
        return _at_source(model, adapters, encode(model, source), token, rule).readings


class _AtSource(NamedTuple):
    """The source, as the chosen tokens see it."""

    tokens: list[int]
    readings: dict[int, LayerInputs]
    adapters: dict[int, LayerAdapter]
    """As they run on the source (`LayerAdapter.of_text`)."""


def _at_source(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    encoded: Encoded,
    token: Tokens,
    rule: UpdateRule,
) -> _AtSource:
    """Chosen positions, the readings of each layer there, and its adapter."""
    lane = adapters if rule.mode == "propagated" else None
    readings = layer_readings(
        model, torch.tensor([encoded.ids]), list(adapters), lane=lane, positions=rule.positions
    )
    chosen = _tokens(token, encoded, readings)
    bound = {layer: adapter.of_text(readings[layer].attention) for layer, adapter in adapters.items()}
    return _AtSource(chosen, {layer: _at(reading, chosen) for layer, reading in readings.items()}, bound)


def checkpoint_fingerprint(checkpoint: Checkpoint, layers: Sequence[int]) -> str:
    """Hash of these layers' adapters, sixteen hex digits: weights as used, and semantics."""
    return adapters_fingerprint({layer: checkpoint.adapter(layer) for layer in layers})


def adapters_fingerprint(adapters: Mapping[int, LayerAdapter]) -> str:
    """The same of adapters that are at hand."""
    content = hashlib.sha256()
    for layer, adapter in sorted(adapters.items()):
        content.update(f"{layer} {adapter.semantics}".encode())
        for name, tensor in sorted(adapter.state_dict().items()):
            content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def _factors(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    at_source: Mapping[int, LayerInputs],
    rule: UpdateRule,
    reference: ReferenceInputs | None,
) -> tuple[dict[Place, Factors], list[str]]:
    """Factors of every projection, and what decided them beside the rule, in sentences."""
    n_tokens = len(next(iter(at_source.values())).attention)
    weights = torch.ones(n_tokens) / (n_tokens if rule.combine == "mean" else 1)
    places = [Place(layer, target) for layer, adapter in adapters.items() for target in adapter.targets]
    details, inputs = [], {}
    if rule.name == "whitened":
        if reference is None:
            texts = rule.reference or whitening_texts()
            reference = reference_inputs(model, texts, places, reads=rule.reads, positions=rule.positions)
        inputs = reference.inputs
        details.append(
            f"key whitened by the second moment of {rule.reads} over {len(reference)} tokens, ridge {rule.ridge:g}"
        )
    factors: dict[Place, Factors] = {}
    for layer, reading in at_source.items():
        if rule.name == "npt":
            factors |= npt_layer_factors(adapters[layer], reading.attention, weights, rule)
        elif rule.name == "exact":
            factors |= exact_layer_factors(model, layer, reading, weights)
        else:
            factors |= keyed_layer_factors(model, adapters[layer], reading, weights, rule, inputs)
    if rule.protect:
        details += _protect(model, factors, at_source, rule)
    return factors, details


def _protect(
    model: BaseModel,
    factors: dict[Place, Factors],
    at_source: Mapping[int, LayerInputs],
    rule: UpdateRule,
) -> list[str]:
    """Project every key off the inputs of the protected prompts, in place; returns the share of the effect that is left."""
    protected = reference_inputs(
        model, rule.protect, list(factors), reads=rule.reads, positions=rule.positions, with_sinks=True
    )
    details = []
    for place in list(factors):
        source: Tensor = projection_inputs(model, place.layer, at_source[place.layer].mlp_input(rule.reads))[
            place.target
        ]
        factors[place], share = without_effect_on(
            factors[place], protected.inputs[place], source, place.parameter
        )
        details.append(
            f"{place.target} of layer {place.layer}: key projected off {len(rule.protect)} protected "
            f"prompt{'s' if len(rule.protect) > 1 else ''}, which left {share:.0%} of the effect before rescaling"
        )
    return details


def _tokens(token: Tokens, encoded: Encoded, readings: Mapping[int, LayerInputs]) -> list[int]:
    n = len(encoded.ids)
    if token == "all":
        is_sink = torch.stack([reading.is_sink for reading in readings.values()]).any(0)
        return [t for t in range(n) if not is_sink[t]] or list(range(n))
    if isinstance(token, str):
        raise NptVizError(f"token is {token!r}; give a position, several positions, or 'all'")
    wanted = [token] if isinstance(token, int) else list(token)
    if not wanted:
        raise NptVizError("no token was chosen; give at least one position of the source text")
    return sorted({position(t, n, "source") for t in wanted})


def position(token: int, n: int, text: str) -> int:
    """Index of a token from the start of a text of n tokens; negative ones count from its end."""
    if not -n <= token < n:
        raise NptVizError(
            f"token {token} does not exist: the {text} text has {n} tokens; choose -{n} to {n - 1}"
        )
    return token % n


def _at(reading: LayerInputs, tokens: Sequence[int]) -> LayerInputs:
    return LayerInputs(**{name: value[list(tokens)] for name, value in vars(reading).items()})


def _additive(adapters: Mapping[int, LayerAdapter]) -> list[int]:
    return [
        layer
        for layer, adapter in adapters.items()
        if any(isinstance(part, Additive) for part in adapter.learned.values())
    ]


def _bias_note(adapter: LayerAdapter) -> str:
    return (
        f"{adapter.variant} of layer {adapter.layer} adds a bias or a factor, which is no low-rank weight change; "
        "written is the smallest weight change with the same effect at the source token"
    )

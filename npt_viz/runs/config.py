"""Settings in the files beside a published training log: weights, stages, layers, tokens of a batch.

Its values are what was asked for, not what was found (published configs always say np_rank 64), and its keys are those of the public scripts.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

TERM_NAMES = {
    "direct": "direct",
    "direct_mlp": "direct",
    "mlp_direct": "direct",
    "attention": "attention_encoding",
    "attention_encoding": "attention_encoding",
    "fidelity": "fidelity",
    "reg": "regularisation",
    "regularization": "regularisation",
    "regularisation": "regularisation",
    "guidance": "guidance",
    "modulation_guidance": "guidance",
    "bottleneck": "bottleneck",
    "info_bottleneck": "bottleneck",
    "information_bottleneck": "bottleneck",
    "modulation": "strength",
    "decomposed": "decomposed",
    "consistency": "consistency",
    "projection_consistency": "consistency",
    "orthogonality": "orthogonality",
    "kl": "kl",
}
"""What a published log or config calls a loss -> its name here."""

_LAYER_KEYS = (
    "layer_idx",
    "single_layer",
    "layer",
    "layers_to_train",
    "train_layers",
    "convert_layers",
    "layers",
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """The settings of a training by the public scripts; what the config does not say is None or empty."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Loss -> weight, as far as it says."""
    stage_steps: int | None = None
    """S of the three stages."""
    layers: tuple[int, ...] = ()
    layer_weights: Mapping[int, float] = field(default_factory=dict)
    """Of each layer's losses, in a training of several."""
    batch_tokens: int | None = None
    """batch × length: the tokens that a logged norm is of."""
    step_tokens: int | None = None
    """The same with accumulation: the tokens of an optimiser step."""
    curriculum: tuple[tuple[int, str], ...] = ()
    """(step, label) where a stage of the layers' curriculum begins, the first left out."""


def published(config: Mapping, state: Mapping | None = None) -> Published:
    """The settings in a config, wherever in it they lie, and in the state of a training of several layers.

    state: content of a multi_layer_state.pt; what it says of layers, their weights and the curriculum holds.
    """
    flat = dict(_flat(config))
    state = state or {}
    weights = {}
    for words, term in TERM_NAMES.items():
        for key in (f"{words}_weight", f"{words}_loss_weight", f"lambda_{words}", f"{words}_lambda"):
            if (weight := _positive(flat.get(key), zero=True)) is not None:
                weights[term] = weight
    layers = _layers(state.get("layers_to_train")) or next(
        filter(None, (_layers(flat.get(key)) for key in _LAYER_KEYS)), ()
    )
    batch = _whole(flat.get("batch_size"))
    length = next(
        filter(None, map(_whole, map(flat.get, ("max_length", "max_seq_length", "sequence_length")))), None
    )
    tokens = batch * length if batch and length else None
    return Published(
        weights=weights,
        stage_steps=_whole(flat.get("stage1_steps")),
        layers=layers,
        layer_weights=_weights_by_layer(state.get("layer_weights"))
        or _layer_weights(flat.get("layer_weights"), layers),
        batch_tokens=tokens,
        step_tokens=tokens and tokens * (_whole(flat.get("gradient_accumulation_steps")) or 1),
        curriculum=_scheduled(state.get("curriculum_schedule")) or _curriculum(flat.get("curriculum_stages")),
    )


_DEPTH = 20
"""Of a config that is looked through; none that was written by hand is deeper."""


def _flat(config: Mapping, depth: int = _DEPTH) -> Iterator[tuple[str, object]]:
    """Every key at any depth; where two are equal, the outer one comes last and so wins."""
    for value in config.values():
        if isinstance(value, Mapping) and depth:
            yield from _flat(value, depth - 1)
    yield from ((key, value) for key, value in config.items() if not isinstance(value, Mapping))


def _positive(value: object, *, zero: bool = False) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    good = math.isfinite(value) and (value > 0 or (zero and value == 0))
    return float(value) if good else None


def _whole(value: object) -> int | None:
    amount = _positive(value)
    return int(amount) if amount and amount == int(amount) else None


def _layers(value: object) -> tuple[int, ...]:
    """15, [14, 15] or "14,15"."""
    parts: list[Any] = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    )
    try:
        return tuple(int(part) for part in parts if not isinstance(part, bool))
    except (TypeError, ValueError):
        return ()


def _layer_weights(value: object, layers: tuple[int, ...]) -> dict[int, float]:
    """uniform, linear (from 1 down to a half) or "1.0,0.8": what the public script takes."""
    if value == "linear":
        return {layer: 1 - 0.5 * i / max(1, len(layers) - 1) for i, layer in enumerate(layers)}
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    try:
        weights = [float(part) for part in parts]
    except (TypeError, ValueError):
        return {}
    # As there: as many as layers, or all alike.
    return dict(zip(layers, weights, strict=True)) if len(weights) == len(layers) else {}


def _weights_by_layer(value: object) -> dict[int, float]:
    """{14: 1.0}, as a state holds it; empty where it is anything else."""
    if not isinstance(value, Mapping):
        return {}
    weights = {layer: _positive(weight, zero=True) for layer, weight in value.items() if type(layer) is int}
    known = {layer: weight for layer, weight in weights.items() if weight is not None}
    return known if len(known) == len(value) else {}


def _scheduled(value: object) -> tuple[tuple[int, str], ...]:
    """[{name, until_step, mixing_ratio}], as a state holds it: where each stage but the first begins."""
    stages = value if isinstance(value, list) and all(isinstance(stage, Mapping) for stage in value) else []
    marks = []
    for before, stage in pairwise(stages):
        start, ratio = _whole(before.get("until_step")), _positive(stage.get("mixing_ratio"))
        if start is None:
            return ()
        marks.append((start, f"{stage.get('name')!s:.40}" + (f" {ratio:g}" if ratio else "")))
    return tuple(marks)


def _curriculum(value: object) -> tuple[tuple[int, str], ...]:
    """ "teacher:5000,mixed:5000:0.5,student:20000": where each stage but the first begins."""
    marks, end = [], 0
    for part in value.split(",") if isinstance(value, str) else ():
        name, _, rest = part.strip().partition(":")
        if end:
            ratio = f" {rest.partition(':')[2]}" if ":" in rest else ""
            marks.append((end, f"{name}{ratio}"))
        try:
            end += int(rest.partition(":")[0])
        except ValueError:
            return ()
    return tuple(marks)

"""Predictions of the NPT model against the base: KL, NLL, agreement, beside the same with its modulation off.

All versions of a sequence run side by side and share everything below the first changed layer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.drift import recorded_drift
from npt_viz.capture.inspection import adapters_of, pooling_notes
from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import Lane, NoAttention, forward_pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.progress import CountProgress
from npt_viz.question import Bos, Positions, check_positions
from npt_viz.results.downstream import Arm, Downstream, Run

WINDOW = 512
"""Tokens of a sequence; a longer one is cut here, which changes nothing before the cut."""

MAX_SEQUENCES = 16

LANE_BYTES = 2**28
"""Activations of all lanes that run side by side, roughly; further lanes run after them."""


class Version(NamedTuple):
    """One lane: which layers are changed, and whether their modulation is on."""

    layers: tuple[int, ...]
    modulated: bool


def downstream(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    texts: str | Sequence[str] | Sequence[Sequence[int]],
    *,
    layers: Sequence[int] | None = None,
    positions: Positions = "deployed",
    each_layer: bool = True,
    cascade: bool = True,
    chat: bool = False,
    bos: Bos = "auto",
    window: int = WINDOW,
    max_sequences: int = MAX_SEQUENCES,
    progress: CountProgress | None = None,
) -> Downstream:
    """The predictions of the NPT model for a prompt (a str) or a reference text (several).

    each_layer: also every layer alone, and with `cascade` the lowest two, three …; False runs the whole NPT model only.
    progress: called with (lanes run, lanes in all).

    Raises NptVizError for no text, an empty one, or a layer the checkpoint does not have.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    sequences: list = [texts] if isinstance(texts, str) else list(texts)
    if not sequences:
        raise NptVizError("the reference text is empty; give at least one sequence")
    check_positions(positions)
    adapters = adapters_of(checkpoint, layers)
    encoded = [encode(model, text, chat=chat, bos=bos) for text in sequences[:max_sequences]]
    kept = [each.ids[:window] for each in encoded]
    versions = versions_of(tuple(adapters), each_layer, cascade)
    sequences_run = []
    for i, ids in enumerate(kept):

        def step(done: int, before: int = i * len(versions)) -> None:
            if progress:
                progress(before + done, len(kept) * len(versions))

        sequences_run.append(_sequence(model, adapters, versions, ids, positions, step))
    nll_base = np.concatenate([base for base, _ in sequences_run])
    runs = {
        version: _joined([by_version[version] for _, by_version in sequences_run]) for version in versions
    }
    lengths = [len(ids) for ids in kept]
    return Downstream(
        tokens=tuple(piece.glyph for each in encoded for piece in each.pieces[:window]),
        sequence=np.repeat(np.arange(len(kept)), lengths),
        position=np.concatenate([np.arange(n) for n in lengths]),
        layers=tuple(adapters),
        nll_base=nll_base,
        arms=tuple(
            Arm(layers=on, npt=runs[Version(on, True)], off=runs[Version(on, False)])
            for on in dict.fromkeys(version.layers for version in versions)
        ),
        positions=positions,
        attention={layer: adapter.attention for layer, adapter in adapters.items()},
        notes=(
            *_notes([len(each.ids) for each in encoded], len(sequences), window),
            *pooling_notes(adapters),
        ),
    )


def versions_of(layers: tuple[int, ...], each_layer: bool = True, cascade: bool = True) -> list[Version]:
    """Each set of layers once, on and off: the cascade from below, then each layer alone, by first layer."""
    sets = [layers]
    if each_layer:
        from_below = [layers[: i + 1] for i in range(len(layers))] if cascade else [layers]
        sets = [*from_below, *((layer,) for layer in layers)]
    return [Version(on, modulated) for on in dict.fromkeys(sets) for modulated in (True, False)]


def cost(
    model: BaseModel, layers: Sequence[int], n_tokens: int, *, each_layer: bool = True, cascade: bool = True
) -> float:
    """Forward passes of the base model that `downstream` takes, without its unembedding; about."""
    versions = versions_of(tuple(sorted(layers)), each_layer, cascade)
    depth = model.n_layers
    forwards = 0.0
    for group in _groups(model, versions, n_tokens):
        first = min(version.layers[0] for version in group)
        forwards += (first + (len(group) + 1) * (depth - first)) / depth
    return forwards


class _Columns(NamedTuple):
    """One version of one sequence."""

    kl: np.ndarray
    nll: np.ndarray
    agrees: np.ndarray
    drift: np.ndarray
    """(depth, token)"""


@torch.no_grad()
def _sequence(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    versions: Sequence[Version],
    ids: list[int],
    positions: Positions,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, dict[Version, _Columns]]:
    """(NLL of the base, what each version predicts)."""
    tokens = torch.tensor([ids])
    columns_of: dict[Version, _Columns] = {}
    nll_base = np.empty(0)
    for group in _groups(model, versions, len(ids)):
        lanes = [{}, *(_lane(adapters, version) for version in group)]
        with recorded_drift(model, len(lanes)) as drift:
            final = forward_pass(model, tokens, lanes, positions=positions).final
            predicted = predictions(model, final, tokens[0], top_k=1)
        drifted = torch.stack(drift, dim=1).numpy()
        nll_base = predicted.nll[0]
        for lane, version in enumerate(group, start=1):
            columns = (predicted.kl, predicted.nll, predicted.agrees, drifted)
            columns_of[version] = _Columns(*(column[lane] for column in columns))
        progress(len(columns_of))
    return nll_base, columns_of


def _lane(adapters: Mapping[int, LayerAdapter], version: Version) -> Lane:
    if version.modulated:
        return {layer: adapters[layer] for layer in version.layers}
    return {layer: NoAttention(attention=adapters[layer].attention) for layer in version.layers}


def _groups(model: BaseModel, versions: Sequence[Version], n_tokens: int) -> Iterator[list[Version]]:
    """Lanes side by side as memory allows; those with the same first layer together, to share what is below it."""
    a_lane = n_tokens * (3 * model.d_ffn + 8 * model.d_model) * model.dtype.itemsize
    size = max(1, LANE_BYTES // a_lane - 1)
    ordered = sorted(versions, key=lambda version: version.layers[0])
    size = math.ceil(len(ordered) / math.ceil(len(ordered) / size))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _joined(parts: Sequence[_Columns]) -> Run:
    kl, nll, agrees, drift = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
    return Run(kl=kl, nll=nll, agrees=agrees, drift=np.median(drift, axis=-1))


def _notes(lengths: Sequence[int], n_texts: int, window: int) -> Iterator[str]:
    cut = [length for length in lengths if length > window]
    if cut and len(lengths) == 1:
        yield f"the first {window:,} of {cut[0]:,} tokens; what follows cannot change them"
    elif cut:
        yield f"{len(cut)} of {len(lengths)} sequences are cut to their first {window:,} tokens"
    if n_texts > len(lengths):
        yield f"the first {len(lengths)} of {n_texts:,} sequences"

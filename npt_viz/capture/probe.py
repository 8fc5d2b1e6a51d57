"""Infer from the weights whether attention was withheld or beside, which key names cannot tell (N1 or N2, N4 or N3)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from npt_viz.capture.inspection import inspect
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel

TEXT = (
    "The river had risen in the night, and by morning the lower fields were under water. Anna counted the sheep "
    "twice, wrote 47 in the book, and walked back to the house. “We should have moved them on Tuesday,” she said."
)
"""Prompt of the probe; any text will do, a fixed one gives the same answer every time."""


class AttentionPathFit(NamedTuple):
    """Fit of one layer to either attention path: median over tokens of the share recovered, sinks left out."""

    path: str | None
    """withheld or beside, the reading that fits better; None where the adapter fits neither."""
    withheld: float
    """Share of a + MLP(z_C) − MLP(z) that the modulation replaces."""
    beside: float
    """Share of MLP(z_C) − MLP(z)."""


def attention_paths(model: BaseModel, checkpoint: Checkpoint) -> dict[int, AttentionPathFit]:
    """Fit of every rank-1 layer to either path: withheld reconstructs a + MLP(z_C), beside reconstructs MLP(z_C).

    The modulated MLP is the same in both readings; only the target differs. An adapter that beats its own
    absence at neither target (untrained, or of another base) decides nothing.
    """
    layers = [layer for layer in checkpoint.layers if checkpoint.semantics(layer).rule == "rank_one_sum"]
    tokens = model.tokenizer.encode(TEXT)[: model.context_length]
    shares: dict[str, Mapping[int, float]] = {}
    for reading in ("withheld", "beside"):
        read = checkpoint.with_semantics(dict.fromkeys(layers, reading))
        run = inspect(model, read, tokens, layers=layers, logits=False) if layers else None
        shares[reading] = {
            layer: float(np.nanmedian(run.layers[layer].recovered[~run.is_sink])) for layer in layers
        }
    return {
        layer: AttentionPathFit(
            _better(shares["withheld"][layer], shares["beside"][layer]), *(s[layer] for s in shares.values())
        )
        for layer in layers
    }


def probed(checkpoint: Checkpoint, model: BaseModel) -> Checkpoint:
    """The checkpoint with the attention path that each rank-1 layer fits better; the fits join the report's warnings."""
    fits = attention_paths(model, checkpoint)
    decided = {layer: fit.path for layer, fit in fits.items() if fit.path}
    notes = [_in_words(layer, fit) for layer, fit in fits.items()]
    return checkpoint.with_semantics(decided, provenance="probe", notes=notes)


def _in_words(layer: int, fit: AttentionPathFit) -> str:
    verdict = f"attention is {fit.path}" if fit.path else "neither, so the reading stays as it was"
    return (
        f"layer {layer}: the probe says {verdict}; the modulation recovers {fit.withheld:.2f} of the way to "
        f"a + MLP(z_C) and {fit.beside:.2f} of the way to MLP(z_C) (medians over tokens)"
    )


def _better(withheld: float, beside: float) -> str | None:
    if not max(withheld, beside) > 0:
        return None
    return "withheld" if withheld > beside else "beside"

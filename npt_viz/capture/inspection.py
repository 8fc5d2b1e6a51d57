"""One prompt through the base model and the NPT model, in one pass."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from npt_viz.adapter import Additive, LayerAdapter, mlp_trace
from npt_viz.capture.predictions import Predictions, chunk_length, predictions
from npt_viz.capture.running import Pass, forward_pass
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token, encode
from npt_viz.results.inspection import Inspection, LayerInspection, TopTokens
from npt_viz.shapes import Float

Mode = Literal["local", "propagated"]

SINK_FACTOR = 10.0
"""A token is an attention sink where its residual norm exceeds this many times the median of the prompt."""

BASE, NPT = 0, 1
"""The two lanes of the pass."""


def inspect(
    model: BaseModel,
    checkpoint,
    prompt: str | Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    mode: str = "local",
    positions: str = "deployed",
    top_k: int = 10,
    logits: bool = True,
    chat: bool = False,
    bos: bool | Literal["auto"] = "auto",
    keep: Callable[[Pass], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """What the modulation does at every token of one prompt.

    layers: the NPT layers that run; the others of the checkpoint stay standard. All of them by default.
    mode: local feeds every NPT layer the base model's own h and a; propagated takes what the running NPT
        model sees and writes. The prediction (kl, nll, top-k) is that of the running NPT model in both.
    logits: False leaves the prediction out and saves the unembedding.
    keep: gets the pass that everything is read from, lanes BASE and NPT with every layer of `layers` recorded: what
        asks more about the same prompt takes it as `seen` and need not run the prompt again.
    progress: called with (steps done, steps in all); what it raises ends the pass and leaves no hook behind.

    Raises NptVizError for an empty or too long prompt, a layer the checkpoint does not have, NaN weights.
    """
    if mode not in ("local", "propagated"):
        raise NptVizError(f"mode {mode!r} does not exist; choose local or propagated")
    if positions not in ("deployed", "trained"):
        raise NptVizError(f"positions {positions!r} do not exist; choose deployed or trained")
    encoded = encode(model, prompt, chat=chat, bos=bos)
    adapters = {layer: checkpoint.adapter(layer) for layer in layers_of(checkpoint, layers)}
    token_ids = torch.tensor([encoded.ids])
    chunks = -(-len(encoded.ids) // chunk_length(model, n_lanes=2)) if logits else 0
    step = _counted(progress, model.n_layers + chunks)
    with model.lock, torch.no_grad():
        seen = forward_pass(
            model, token_ids, [{}, adapters], record=sorted(adapters), positions=positions, each_layer=step
        )
        found = {layer: _layer(model, adapters[layer], seen, mode) for layer in sorted(adapters)}
        predicted = (
            predictions(model, seen.final, token_ids[0], top_k=top_k, each_chunk=step) if logits else None
        )
    if keep is not None:
        keep(seen)
    return Inspection(
        prompt=prompt if isinstance(prompt, str) else "".join(piece.glyph for piece in encoded.pieces),
        model=model.name,
        checkpoint=checkpoint.name,
        mode=mode,
        positions=positions,
        pieces=tuple(encoded.pieces),
        layers=found,
        is_sink=_sinks(found),
        notes=tuple(encoded.notes),
        **_prediction_columns(model, predicted),
    )


def _counted(progress: Callable[[int, int], None] | None, in_all: int) -> Callable[[], None]:
    steps = count(1)
    return (lambda: progress(next(steps), in_all)) if progress else (lambda: None)


def layers_of(checkpoint, layers: Sequence[int] | None) -> list[int]:
    """The asked-for layers, each of which the checkpoint must have; all of them for None."""
    if layers is None:
        return sorted(checkpoint.layers)
    if missing := sorted(set(layers) - set(checkpoint.layers)):
        raise NptVizError(
            f"layer {missing[0]} is no NPT layer of {checkpoint.name}; it has layers "
            f"{', '.join(map(str, sorted(checkpoint.layers)))}: choose among these"
        )
    if not layers:
        raise NptVizError("no layer was chosen; name at least one NPT layer")
    return sorted(set(layers))


def _layer(model: BaseModel, adapter: LayerAdapter, seen: Pass, mode: Mode) -> LayerInspection:
    record = seen.layers[adapter.layer]
    parts = model.parts(adapter.layer)
    lane = BASE if mode == "local" else NPT
    hidden, attention = record.hidden[lane], record.attention[lane]
    withheld = adapter.attention == "withheld"
    mlp_input = parts.mlp_norm(hidden + attention if adapter.attention == "standard" else hidden)
    plain = mlp_trace(parts.mlp, mlp_input)
    trace = adapter.mlp(parts.mlp, attention, mlp_input, plain)
    target = record.mlp_output[BASE].float()
    if withheld:
        target = target + record.attention[BASE].float()
    fit = fit_columns(trace.output.float(), plain.output.float(), target)
    if adapter.attention == "standard":
        # With its modulation off such a layer is the base's own, so that what is left is rounding.
        fit["recovered"][:] = np.nan
    return LayerInspection(
        layer=adapter.layer,
        variant=adapter.variant,
        **_modulation_columns(adapter, attention, mlp_input, plain, trace),
        **fit,
        hidden_norm=_numpy(hidden.float().norm(dim=-1)),
        attention_norm=_numpy(attention.float().norm(dim=-1)),
    )


def fit_columns(
    output: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
) -> dict[str, np.ndarray]:
    """relative_error, cosine, magnitude_ratio and recovered, each (token,).

    output ŷ: the modulated MLP. unmodulated: MLP(z), the same MLP with its modulation off.
    `recovered` is NaN where no modulation is needed, because 0/0 would hide it.
    """
    error = (output - target).norm(dim=-1)
    nothing = (unmodulated - target).norm(dim=-1)
    size = target.norm(dim=-1)
    return {
        "relative_error": _numpy(error / size),
        "cosine": _numpy(torch.cosine_similarity(output, target, dim=-1)),
        "magnitude_ratio": _numpy(output.norm(dim=-1) / size),
        "recovered": _numpy(1 - (error / nothing.where(nothing > 0, torch.nan)) ** 2),
    }


def _modulation_columns(adapter, attention, mlp_input, plain, trace) -> dict:
    columns = {name: {} for name in ("scalars", "update_norms", "component_norms", "changes")}
    n_tokens = attention.shape[0]
    for target, modulation in adapter.modulations.items():
        home = next(modulation.parameters())
        a = attention.to(home)
        x = (trace.intermediate if target == "down" else mlp_input).to(home)
        if isinstance(modulation, Additive):
            scalars = norms = a.new_zeros(n_tokens, 0)
            update_norm = a.new_full((n_tokens,), torch.nan)
        else:
            scalars = scalars_of(modulation, a, x)
            norm_a, norm_b = modulation.norms(a)
            norms = norm_a * norm_b
            update_norm = modulation.update_norm(a)
        if target == "down":
            # The intermediate differs too, so the change is held against W_d of the modulated intermediate.
            change = modulation.change(a, x)
            before = trace.output.to(home) - change
        else:
            before = getattr(plain, target).to(home)
            change = getattr(trace, target).to(home) - before
        columns["scalars"][target] = _numpy(scalars)
        columns["update_norms"][target] = _numpy(update_norm)
        columns["component_norms"][target] = _numpy(norms)
        columns["changes"][target] = _numpy(change.norm(dim=-1) / before.norm(dim=-1))
    return columns


def scalars_of(
    modulation, attention: Float[Tensor, "token model"], x: Float[Tensor, "token inp"]
) -> Float[Tensor, "token component"]:
    """The modulation scalars of a rule that is a weight change (all but the additive ones)."""
    if hasattr(modulation, "bottleneck"):
        return modulation.scalars(modulation.bottleneck(attention), x)
    return modulation.strength(attention) * (x @ modulation.A)


def _sinks(layers: dict[int, LayerInspection]) -> np.ndarray:
    marks = [found.hidden_norm > SINK_FACTOR * np.median(found.hidden_norm) for found in layers.values()]
    return np.any(marks, axis=0)


def _prediction_columns(model: BaseModel, found: Predictions | None) -> dict:
    if found is None:
        return {}
    tables = []
    for lane in (BASE, NPT):
        ids = found.top_ids[lane]
        glyph = {int(i): display_token(model.tokenizer, int(i)).glyph for i in np.unique(ids)}
        tables.append(
            TopTokens(
                ids=ids,
                probabilities=found.top_probabilities[lane],
                glyphs=tuple(tuple(glyph[int(i)] for i in row) for row in ids),
            )
        )
    return {
        "kl": found.kl[NPT],
        "nll_base": found.nll[BASE],
        "nll_npt": found.nll[NPT],
        "base_top": tables[BASE],
        "npt_top": tables[NPT],
    }


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()

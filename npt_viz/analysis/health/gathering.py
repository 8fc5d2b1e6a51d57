"""Measures what the rules judge, in a few passes: each sequence with and without RoPE, and once downstream."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from npt_viz.adapter import Additive, LayerAdapter, stream_keeps_attention
from npt_viz.analysis.ablation import Amplified
from npt_viz.analysis.collapse import verdicts
from npt_viz.analysis.downstream import downstream
from npt_viz.analysis.health.evidence import LayerEvidence, Opposites, Predicted, Sinks
from npt_viz.capture.layer_trace import LayerTrace, Traces, fit_of, traces
from npt_viz.capture.layer_view import view_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.results.load_report import LayerReport
from npt_viz.results.reconstruction import ClassFloor
from npt_viz.shapes import Float, Tensor

FACTORS = (0.125, 0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0, 8.0)
"""By which the modulation's size is tried."""

OPPOSITE_COSINE = -0.5
"""Two tokens have opposite attention outputs below this cosine."""

MAX_PAIRED = 1024
"""Tokens that are compared in pairs."""

EACH_ALONE = 4
"""Up to so many NPT layers the prediction is also measured with each alone."""


class LayerSamples:
    """One layer's activations on all sequences, with and without RoPE."""

    def __init__(self, deployed: LayerTrace, is_sink: Tensor, trained: LayerTrace) -> None:
        self.all, self.is_sink = deployed, is_sink
        self.ordinary, self.trained = deployed.rows(~is_sink), trained


def samples(
    model: BaseModel, adapters: Mapping[int, LayerAdapter], sequences: Sequence[Sequence[int]]
) -> dict[int, LayerSamples]:
    """Every layer on every sequence, one after the other; sinks are detected in each sequence."""
    deployed = [traces(model, adapters, ids) for ids in sequences]
    trained = [traces(model, adapters, ids, positions="trained") for ids in sequences]
    is_sink = torch.cat([text.is_sink for text in deployed])
    left_out = torch.cat([text.is_sink for text in trained])

    def joined(texts: Sequence[Traces], layer: int) -> LayerTrace:
        first, *others = (text.local[layer] for text in texts)
        return first.joined(*others)

    return {
        layer: LayerSamples(joined(deployed, layer), is_sink, joined(trained, layer).rows(~left_out))
        for layer in adapters
    }


@torch.no_grad()
def layer_evidence(
    model: BaseModel,
    adapter: LayerAdapter,
    report: LayerReport,
    samples_of_layer: LayerSamples,
    floor: ClassFloor | None = None,
) -> LayerEvidence:
    """The numbers of one layer; the caller holds the model's lock."""
    ordinary = samples_of_layer.ordinary
    change = samples_of_layer.all.output - samples_of_layer.all.unmodulated
    return LayerEvidence(
        report=report,
        n_tokens=len(ordinary.hidden),
        reconstructs=adapter.semantics.reconstructs,
        recovered=_median(fit_of(adapter, ordinary)),
        recovered_without_rope=_median(fit_of(adapter, samples_of_layer.trained)),
        recovered_other=_median(_other_fit(adapter, ordinary)),
        recovered_by_factor=_by_factor(model, adapter, ordinary),
        largest_change=float((change.norm(dim=-1) / samples_of_layer.all.unmodulated.norm(dim=-1)).max()),
        verdicts=_verdicts(model, adapter, ordinary),
        opposites=_opposites(adapter, ordinary),
        sinks=_sinks(samples_of_layer),
        floor=floor,
    )


def predicted(
    model: BaseModel,
    checkpoint: Checkpoint,
    layers: Sequence[int],
    sequences: Sequence[Sequence[int]],
    **options,
) -> tuple[Predicted, ...]:
    """All layers together, and each alone where there are few."""
    result = downstream(
        model, checkpoint, sequences, layers=layers, each_layer=len(layers) <= EACH_ALONE, **options
    )
    arms = {arm.layers: arm for arm in (result.whole, *result.alone)}
    return tuple(
        Predicted(
            layers=arm.layers,
            median_kl=arm.npt.median_kl,
            median_kl_off=arm.off.median_kl,
            mean_kl=arm.npt.mean_kl,
            mean_kl_off=arm.off.mean_kl,
            perplexity_base=result.perplexity_base,
            perplexity=arm.npt.perplexity,
            perplexity_off=arm.off.perplexity,
            agreement=arm.npt.agreement,
        )
        for arm in arms.values()
    )


def _opposites(adapter: LayerAdapter, trace: LayerTrace) -> Opposites:
    """Pairs of tokens with opposite attention: what their two changes should have in common, and what they have."""
    few = trace.rows(slice(0, MAX_PAIRED))
    pairs = _cosines(few.base_attention) < OPPOSITE_COSINE
    if not pairs.any():
        return Opposites(0.0, *3 * (float("nan"),))
    paired = few.rows(pairs.any(1))
    return Opposites(
        share=float(pairs.any(1).float().mean()),
        needed=float(_cosines(few.target - few.unmodulated)[pairs].mean()),
        given=float(_cosines(few.output - few.unmodulated)[pairs].mean()),
        recovered=_median(fit_of(adapter, paired)),
    )


def _other_fit(adapter: LayerAdapter, trace: LayerTrace) -> dict[str, np.ndarray]:
    """Fit to the target of the other attention path: without a where it is part of the target, with a where it is not."""
    sign = 1 if stream_keeps_attention(adapter.attention) else -1
    return fit_of(adapter, replace(trace, target=trace.target + sign * trace.base_attention))


def _by_factor(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> dict[float, float]:
    parts = model.parts(adapter.layer)
    dtype = parts.dtype
    inputs = trace.attention.to(dtype), trace.mlp_input.to(dtype)
    shares = {}
    for factor in FACTORS:
        amplified = {target: Amplified(modulation, factor) for target, modulation in adapter.learned.items()}
        output = LayerAdapter(adapter.layer, adapter.semantics, amplified).mlp(parts.mlp, *inputs).output
        shares[factor] = _median(fit_of(adapter, trace, output.to(trace.target)))
    return {factor: share for factor, share in shares.items() if np.isfinite(share)}


def _verdicts(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> dict:
    view = view_of(model, adapter, trace)
    return {
        target: verdicts(view, target)
        for target, modulation in adapter.learned.items()
        if not isinstance(modulation, Additive)
    }


def _sinks(samples_of_layer: LayerSamples) -> Sinks:
    error = (samples_of_layer.all.output - samples_of_layer.all.target).square().sum(-1)
    nothing = (samples_of_layer.all.unmodulated - samples_of_layer.all.target).square().sum(-1)
    of_sinks = nothing[samples_of_layer.is_sink].sum()
    return Sinks(
        weight=float(of_sinks / nothing.sum()),
        pooled=float(1 - error.sum() / nothing.sum()),
        recovered=float(1 - error[samples_of_layer.is_sink].sum() / of_sinks),
    )


def _cosines(vectors: Float[Tensor, "token model"]) -> Float[Tensor, "token token"]:
    directions = torch.nn.functional.normalize(vectors, dim=-1)
    return directions @ directions.T


def _median(fit: Mapping[str, np.ndarray]) -> float:
    shares = fit["recovered"][np.isfinite(fit["recovered"])]
    return float(np.median(shares)) if shares.size else float("nan")

"""Measures what the rules judge, in a few passes: the base with and without RoPE, and the NPT model once downstream."""

from collections.abc import Mapping, Sequence

import torch

from npt_viz.adapter import Additive, LayerAdapter
from npt_viz.analysis.collapse import verdicts
from npt_viz.analysis.downstream import downstream
from npt_viz.analysis.health.evidence import LayerEvidence, Opposites, Predicted, Sinks
from npt_viz.capture.layer_trace import BASE, LayerTrace, fit_of, layer_run
from npt_viz.capture.layer_view import view_of
from npt_viz.capture.probe import Seen, probed_layer
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.question import Positions
from npt_viz.results.estimate import median_of
from npt_viz.results.load_report import LayerReport
from npt_viz.results.reconstruction import ClassFloor
from npt_viz.shapes import Float, Tensor

OPPOSITE_COSINE = -0.5
"""Two tokens have opposite attention outputs below this cosine."""

MAX_PAIRED = 1024
"""Tokens that are compared in pairs."""

EACH_ALONE = 4
"""Up to so many NPT layers the prediction is also measured with each alone."""


@torch.no_grad()
def layer_evidence(
    model: BaseModel,
    adapter: LayerAdapter,
    report: LayerReport,
    seen: Mapping[Positions, Seen],
    floor: ClassFloor | None = None,
    *,
    texts: str = "the text",
) -> LayerEvidence:
    """The numbers of one layer; the caller holds the model's lock.

    texts: the text, in words.
    """
    deployed = seen["deployed"]
    first, *others = (
        layer_run(model, adapter, records[adapter.layer], BASE).trace for records in deployed.records
    )
    trace, is_sink = first.joined(*others), deployed.sinks(adapter.layer)
    ordinary = trace.rows(~is_sink)
    change = trace.output - trace.unmodulated
    return LayerEvidence(
        report=report,
        reconstructs=adapter.semantics.reconstructs,
        probe=probed_layer(model, adapter, seen, texts),
        n_tokens=len(ordinary),
        largest_change=float((change.norm(dim=-1) / trace.unmodulated.norm(dim=-1)).max()),
        verdicts=_verdicts(model, adapter, ordinary),
        opposites=_opposites(adapter, ordinary),
        sinks=_sinks(trace, is_sink),
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
        model, checkpoint, sequences,
        layers=layers, each_layer=len(layers) <= EACH_ALONE, cascade=False, **options,
    )  # fmt: skip
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
    paired = few.rows(pairs.any(1))
    recovered = median_of(fit_of(adapter, paired)["recovered"])
    if not pairs.any():
        return Opposites(0, len(few), 0.0, float("nan"), float("nan"), recovered)
    return Opposites(
        n=len(paired),
        of=len(few),
        share=float(pairs.any(1).float().mean()),
        needed=float(_cosines(few.target - few.unmodulated)[pairs].mean()),
        given=float(_cosines(few.output - few.unmodulated)[pairs].mean()),
        recovered=recovered,
    )


def _verdicts(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> dict:
    view = view_of(model, adapter, trace)
    return {
        target: verdicts(view, target)
        for target, modulation in adapter.learned.items()
        if not isinstance(modulation, Additive)
    }


def _sinks(trace: LayerTrace, is_sink: Tensor) -> Sinks:
    error = (trace.output - trace.target).square().sum(-1)
    nothing = (trace.unmodulated - trace.target).square().sum(-1)
    of_sinks = nothing[is_sink].sum()
    return Sinks(
        n=int(is_sink.sum()),
        weight=float(of_sinks / nothing.sum()),
        pooled=float(1 - error.sum() / nothing.sum()),
        recovered=float(1 - error[is_sink].sum() / of_sinks),
    )


def _cosines(vectors: Float[Tensor, "token model"]) -> Float[Tensor, "token token"]:
    directions = torch.nn.functional.normalize(vectors, dim=-1)
    return directions @ directions.T

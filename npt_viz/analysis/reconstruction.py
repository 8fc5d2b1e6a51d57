"""How well the modulated MLP replaces attention, in both modes from one pass."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.references import exact_patch
from npt_viz.arguments import checked
from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import LayerTrace, Traces, as_numpy, fit_of, mlp_input_of, target_of, traces
from npt_viz.capture.running import Pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.question import POSITIONS, Positions, Prompt, Question, as_question
from npt_viz.results.reconstruction import LayerFit, PositionsCompared, Reconstruction
from npt_viz.shapes import Float, Tensor


@checked
def reconstruction(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    question: Prompt | Question,
    *,
    kept_pass: Pass | None = None,
) -> Reconstruction:
    """Every NPT layer on every token of the prompt, whatever its length, in both modes: one pass of base and NPT model.

    kept_pass: what `inspect` kept of the same prompt and layers; then no pass is run.
    Raises NptVizError as `inspect` does.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    question = as_question(question)
    encoded = encode(model, question)
    adapters = adapters_of(checkpoint, question.layers)
    with model.lock:
        both = traces(model, adapters, encoded.ids, positions=question.positions, kept_pass=kept_pass)
        glyphs = [piece.glyph for piece in encoded.pieces]
        return reconstructed(model, adapters, both, glyphs, question.positions, encoded.notes)


@checked
def positions_compared(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    question: Prompt | Question,
    *,
    kept_pass: Pass | None = None,
) -> PositionsCompared:
    """`reconstruction` with real positions and without RoPE: two passes.

    kept_pass: what `inspect` kept of the question, which has one of the two; then one pass is run.
    """
    question, checkpoint = as_question(question), as_checkpoint(checkpoint, model)
    runs = {
        positions: reconstruction(
            model,
            checkpoint,
            replace(question, positions=positions),
            kept_pass=kept_pass if positions == question.positions else None,
        )
        for positions in POSITIONS
    }
    return PositionsCompared(deployed=runs["deployed"], trained=runs["trained"])


@torch.no_grad()
def reconstructed(
    model: BaseModel,
    adapters: dict[int, LayerAdapter],
    both: Traces,
    tokens: Sequence[str],
    positions: Positions = "deployed",
    notes: Sequence[str] = (),
) -> Reconstruction:
    """The same from traces that are at hand."""
    return Reconstruction(
        tokens=tuple(tokens),
        is_sink=both.is_sink.numpy(),
        positions=positions,
        local={i: layer_fit(model, adapters[i], layer) for i, layer in both.local.items()},
        propagated={i: layer_fit(model, adapters[i], layer) for i, layer in both.propagated.items()},
        notes=tuple(notes),
    )


def layer_fit(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> LayerFit:
    """One layer in one mode."""
    size, nothing = trace.target.norm(dim=-1), trace.unmodulated - trace.target
    along, beside = split_along(trace.output - trace.target, trace.base_attention)
    return LayerFit(
        layer=adapter.layer,
        variant=adapter.variant,
        reconstructs=adapter.semantics.reconstructs,
        **fit_of(adapter, trace),
        error_along=as_numpy(along / size),
        error_beside=as_numpy(beside / size),
        unmodulated_error=as_numpy(nothing.norm(dim=-1) / size),
        unmodulated_along=as_numpy(split_along(nothing, trace.base_attention)[0] / size),
        exact_error=as_numpy(exact_error(model, adapter, trace)),
    )


def split_along(
    error: Float[Tensor, "token model"], direction: Float[Tensor, "token model"]
) -> tuple[Float[Tensor, "token"], Float[Tensor, "token"]]:
    """(signed length along the direction, length of the orthogonal rest); all of it is rest where there is none."""
    length = direction.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, direction / length, torch.zeros_like(direction))
    along = (error * unit).sum(-1)
    return along, (error - along[:, None] * unit).norm(dim=-1)


def exact_error(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> Float[Tensor, "token"]:
    """Relative error of the exact patch, run like any adapter: what rounding alone costs."""
    parts = model.parts(adapter.layer)
    dtype = parts.dtype
    hidden, attention, mlp_input = (t.to(dtype) for t in (trace.hidden, trace.attention, trace.mlp_input))
    patch = exact_patch(model, adapter.layer, hidden, attention, adapter.attention)
    output = patch.mlp(parts.mlp, attention, mlp_input).output.to(trace.target)
    # In a cascade h and a are not the base's, and the patch restores what the layer itself would write.
    full = parts.mlp(mlp_input_of(parts, hidden, attention, "standard")).to(trace.target)
    target = target_of(adapter.attention, trace.attention, full)
    return (output - target).norm(dim=-1) / target.norm(dim=-1)

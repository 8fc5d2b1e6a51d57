"""Next tokens whose logits one direction of the modulation raises, to first order at one token of the prompt."""

import torch
import torch.nn.functional as F

from npt_viz.analysis.direction_map import chosen_vectors
from npt_viz.analysis.directions import compared_tokens
from npt_viz.analysis.pca import principal_axes
from npt_viz.analysis.updates import Factored, updates_of
from npt_viz.capture.layer_trace import BASE
from npt_viz.capture.layer_view import LayerView, layer_views
from npt_viz.capture.running import Pass, forward_pass
from npt_viz.capture.token_card import logit_change, strongest
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.results.directions import DIRECTIONS, Baseline, DirectionVocabulary
from npt_viz.results.inspection import Inspection
from npt_viz.shapes import Float, Tensor

N_DRAWS = 8
"""Random directions of the same norm."""

LINEARISED = {
    "gate": "the gate's direction δ changes the intermediate by silu'(W_g z) · (W_u z) · δ at this token",
    "up": "the up direction δ changes the intermediate by silu(W_g z) · δ at this token",
    "down": "the direction is added to the residual stream",
}


@torch.no_grad()
def direction_vocabulary(
    model: BaseModel,
    checkpoint: Checkpoint,
    run: Inspection,
    layer: int,
    token: int,
    *,
    direction: str = "this token",
    target: str | None = None,
    component: int | None = None,
    keep_sinks: bool = False,
    top: int = 10,
    seed: int = 0,
    kept_pass: Pass | None = None,
) -> DirectionVocabulary:
    """Through W_d, the final norm and the unembedding; layers between are skipped.

    direction: one of DIRECTIONS. 'this token' is its own s·v_b, 'mean' that of all tokens that count; 'axis 1' and
    'axis 2' are one standard deviation along the principal axes of s·v_b, with the sign of the map.
    token: where gate, up and the base model's final residual stream are taken for the linearisation.
    kept_pass: what `inspect` kept of the run; without it the prompt runs again.
    Raises NptVizError for a direction or token that does not exist and where the direction is zero.
    """
    if direction not in DIRECTIONS:
        raise NptVizError(f"there is no direction {direction!r}; choose {', '.join(DIRECTIONS)}")
    if not 0 <= token < len(run.pieces):
        raise NptVizError(f"token {token} does not exist: the prompt has {len(run.pieces)}, counted from 0")
    view = layer_views(model, checkpoint, run, [layer], kept_pass=kept_pass)[layer]
    target, _ = view.weight_change(target)
    counted = [token] if direction == "this token" else compared_tokens(run, keep_sinks=keep_sinks)[0]
    vectors, _ = chosen_vectors(updates_of(view.rows(counted), target), "s·v_b", component)
    delta = _chosen(vectors, direction)
    norm = delta.norm().item()
    if norm == 0:
        raise NptVizError(f"{direction}: s·v_b is zero, so it changes no logit; train the adapter first")
    generator = torch.Generator().manual_seed(seed)
    with model.lock:
        if kept_pass is None:
            # Attention is causal: what comes after the token cannot change it.
            ids = torch.tensor([run.token_ids[: token + 1]])
            kept_pass = forward_pass(model, ids, positions=run.positions)
        stream = kept_pass.stream[BASE, token]

        def logits(change: Float[Tensor, "out"]) -> Float[Tensor, "vocab"]:
            return logit_change(model, _written(model, view, target, token, change), stream.float())

        change = logits(delta)
        drawn = torch.randn(N_DRAWS, len(delta), generator=generator).to(delta)
        heights = torch.stack([logits(norm * x / x.norm()).abs().max() for x in drawn])
    return DirectionVocabulary(
        direction=direction,
        token=token,
        promoted=strongest(model, change, top, largest=True),
        suppressed=strongest(model, change, top, largest=False),
        random=Baseline(heights.mean().item(), heights.std().item(), N_DRAWS),
        norm=norm,
        linearised_at=f"{LINEARISED[target]}; the final norm at the base model's residual stream there",
    )


def _chosen(vectors: Factored, direction: str) -> Float[Tensor, "out"]:
    if direction == "this token":
        return vectors.vectors()[0]
    if direction == "mean":
        return vectors.left.mean(0) @ vectors.right
    coordinates = vectors.coordinates()
    principal = principal_axes(coordinates)
    which = int(direction.removeprefix("axis ")) - 1
    if which >= len(principal.axes):
        raise NptVizError(
            f"these tokens have {len(principal.axes)} principal axis, not {which + 1}; choose another direction"
        )
    along = (coordinates - principal.mean) @ principal.axes[which]
    # X^T (X u) = n λ u: the axis as a mix of the vectors, times its standard deviation √λ.
    weights = along / (len(along) * principal.variances[which].sqrt())
    return (weights.to(vectors.left) @ vectors.left) @ vectors.right


def _written(
    model: BaseModel, view: LayerView, target: str, token: int, change: Float[Tensor, "out"]
) -> Float[Tensor, "model"]:
    """What joins the residual stream, to first order, when the projection's output changes by this much."""
    if target == "down":
        return change
    gate, up = view.gate[token], view.up[token]
    if target == "gate":
        open_ = torch.sigmoid(gate)
        slope = open_ * (1 + gate * (1 - open_)) * up
    else:
        slope = F.silu(gate)
    down = model.parts(view.layer).down
    moved = (slope * change).to(next(down.parameters()))
    return (down(moved) - down(torch.zeros_like(moved))).to(change)

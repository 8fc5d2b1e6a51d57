"""The closed-form patch that replaces attention exactly: the upper reference of every reconstruction."""

import torch
from torch import nn

from npt_viz.adapter import LayerAdapter, Semantics, mlp_trace, stream_keeps_attention
from npt_viz.adapter.semantics import AttentionPath
from npt_viz.capture.layer_trace import mlp_input_of
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor


class FixedUpdate(nn.Module):
    """One given rank-1 update for each token: projection(x) + v_b (v_a · x).

    A modulation like the learned ones, but it knows its tokens instead of reading attention: it runs only on the
    prompt that it was made from.
    """

    components = 1

    def __init__(self, v_a: Float[Tensor, "token inp"], v_b: Float[Tensor, "token out"]) -> None:
        super().__init__()
        self.v_a = nn.Parameter(v_a, requires_grad=False)
        self.v_b = nn.Parameter(v_b, requires_grad=False)

    def change(
        self,
        attention: Float[Tensor, "*batch token model"],
        x: Float[Tensor, "*batch token inp"],
        unmodulated: Float[Tensor, "*batch token out"] | None = None,
    ) -> Float[Tensor, "*batch token out"]:
        """What the modulation adds to the projection's output."""
        return self.v_b * (x * self.v_a).sum(-1, keepdim=True)


@torch.no_grad()
def exact_patch(
    model: BaseModel,
    layer: int,
    hidden: Float[Tensor, "token model"],
    attention: Float[Tensor, "token model"],
    path: AttentionPath = "withheld",
) -> LayerAdapter:
    """The adapter of these tokens that makes the layer write exactly what the base's layer writes.

    gate: v_a = z/‖z‖², v_b = W_g (z_C − z); up: the same with W_u; down: v_a = m_C/‖m_C‖², v_b = a, where
    m_C = silu(W_g z_C) ⊙ (W_u z_C). Down is needed only where the stream does not keep the attention output; where the
    MLP reads z_C already, gate and up change nothing.
    """
    parts = model.parts(layer)
    z_C = mlp_input_of(parts, hidden, attention, "standard")
    z = mlp_input_of(parts, hidden, attention, path)
    with_attention, without = mlp_trace(parts.mlp, z_C), mlp_trace(parts.mlp, z)
    v_a = z / z.square().sum(-1, keepdim=True)
    updates = {
        "gate": FixedUpdate(v_a, with_attention.gate - without.gate),
        "up": FixedUpdate(v_a, with_attention.up - without.up),
    }
    if not stream_keeps_attention(path):
        m_C = with_attention.intermediate
        updates["down"] = FixedUpdate(m_C / m_C.square().sum(-1, keepdim=True), attention)
    return LayerAdapter(layer, Semantics(attention=path), updates)

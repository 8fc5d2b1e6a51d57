"""Another fit of an adapter's shape: L-BFGS in float64 on all tokens at once, from random factors; what a class floor is held against."""

from typing import NamedTuple

import numpy as np
import torch
from recomputed import Layer, Saw, Written

ITERATIONS = 150


class Fit(NamedTuple):
    """Medians on held-out tokens, sinks left out."""

    fitted: float
    """Of the fit."""
    own: float
    """Of the adapter whose shape it has."""


def fit_again(model, adapter, train: Saw, heldout: Saw, *, positions: str = "deployed") -> Fit:
    """Fit the shape of a rank-one adapter on other activations than it is judged on; both are what the base's layers saw."""
    layer, judged = Layer(model, adapter, train), Layer(model, adapter, heldout)
    way = layer.weights
    way.positions = positions
    block = model.hf.model.layers[adapter.layer]
    W = {name: getattr(block.mlp, f"{name}_proj").weight.detach().double() for name in ("gate", "up", "down")}
    scale, epsilon = block.post_attention_layernorm.weight.detach().double(), model.config.rms_norm_eps

    def norm(x):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + epsilon) * scale

    h, a = (torch.cat([text[adapter.layer][i].double() for text in train[positions]]) for i in (0, 1))
    kept = torch.tensor(~layer.is_sink)
    h, a = h[kept], a[kept]
    draw = torch.Generator().manual_seed(1729)
    parameters = []
    for tensors in way.tensors.values():
        for name, t in tensors.items():
            size = {"W_down": a.square().mean().rsqrt().item(), "W_b_up": 1e-2}.get(name, 1.0) / t.shape[
                -2
            ] ** 0.5
            drawn = size * torch.randn(t.shape, generator=draw, dtype=torch.float64)
            tensors[name] = drawn.requires_grad_()
            parameters.append(tensors[name])
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        written = Written(way, W, norm, h, a)
        error = (written.output - written.target).square().sum(-1)
        loss = torch.log1p(error / (written.unmodulated - written.target).square().sum(-1)).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    own = np.nanmedian(judged.shares())
    judged.weights.positions = positions
    for target, tensors in way.tensors.items():
        judged.weights.tensors[target] = {name: t.detach() for name, t in tensors.items()}
    judged._shares.clear()
    return Fit(float(np.nanmedian(judged.shares())), float(own))

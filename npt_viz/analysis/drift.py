"""How far the residual streams of the lanes of one pass drift from that of lane 0, layer by layer."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor

from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float


@contextmanager
def recorded_drift(model: BaseModel, n_lanes: int) -> Iterator[list[Float[Tensor, "lane token"]]]:
    """Inside the block a forward pass of n_lanes lanes appends ‖h' − h‖ / ‖h‖ at every depth, h being lane 0.

    Depths are the entrance of each layer and the exit of the last. Keeps norms, never streams. Enter it before the
    pass starts; holds the model's lock.
    """
    depths: list[Tensor] = []

    def measure(module, args, kwargs):
        hidden = (args[0] if args else kwargs["hidden_states"]).float()
        base = hidden[:1]
        drift = (hidden - base).norm(dim=-1) / base.norm(dim=-1)
        # Below the layer at which the lanes part there is one row for all of them.
        depths.append(drift.expand(n_lanes, -1).cpu())

    with model.lock, ExitStack() as stack:
        layers = (model.parts(layer).layer for layer in range(model.n_layers))
        for module in (*layers, model.backbone.norm):
            stack.callback(module.register_forward_pre_hook(measure, with_kwargs=True).remove)
        yield depths

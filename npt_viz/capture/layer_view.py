"""What one NPT layer is fed at every token of an inspected prompt, and what an exact modulation would be there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from npt_viz.adapter import LayerAdapter, LowRank, RankOneSum, mlp_trace
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import LayerTrace, lane_of, lane_traces, mlp_input_of, traces
from npt_viz.capture.running import Pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.question import Mode, Positions
from npt_viz.results.inspection import Inspection
from npt_viz.shapes import Float, Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerView(LayerTrace):
    """A trace with the inside of its MLP, in the mode of an inspection; float32, on the adapter's device."""

    adapter: LayerAdapter
    mlp: nn.Module
    """The base layer's MLP: only called."""
    gate: Float[Tensor, "token ffn"]
    """W_g z, unmodulated"""
    up: Float[Tensor, "token ffn"]
    """W_u z, unmodulated"""
    intermediate: Float[Tensor, "token ffn"]
    """m of the modulated gate and up: what W_d reads"""
    down: Float[Tensor, "token model"]
    """W_d m, unmodulated"""
    exact: Mapping[str, Float[Tensor, "token out"]]
    """Target -> the change of the projection's output that the exact patch makes (docs/mathematics.md §5):
    W_g (z_C − z), W_u (z_C − z), a."""

    @property
    def layer(self) -> int:
        return self.adapter.layer

    def plain_output(self, target: str) -> Float[Tensor, "token out"]:
        """The output of one projection without what this target's modulation adds."""
        return {"gate": self.gate, "up": self.up, "down": self.down}[target]

    def read_by(self, target: str) -> Float[Tensor, "token inp"]:
        """The input of one projection."""
        return self.intermediate if target == "down" else self.mlp_input

    def weight_change(self, target: str | None = None) -> tuple[str, RankOneSum | LowRank]:
        """(target, modulation) of a target that is modulated by a weight change; the first one by default.

        Raises NptVizError where the layer does not have it, or where the rule is no weight change.
        """
        targets = self.adapter.targets
        target = target or targets[0]
        if target not in targets:
            raise NptVizError(
                f"layer {self.layer} does not modulate {target!r}; it modulates {', '.join(targets)}: choose one"
            )
        modulation = self.adapter.modulation(target)
        if not isinstance(modulation, RankOneSum | LowRank):
            raise NptVizError(
                f"layer {self.layer} ({self.adapter.variant}) shifts the {target}'s output instead of changing its "
                "weights, so it has no ΔW, v_a, v_b or scalar; Reconstruction shows what it does"
            )
        return target, modulation

    def rows(self, index: Sequence[int] | np.ndarray) -> "LayerView":
        """The same layer at some of the tokens."""
        tokens = torch.as_tensor(index, dtype=torch.long, device=self.hidden.device)
        return replace(
            self,
            **{name: column[tokens] for name, column in self.columns.items()},
            exact={target: change[tokens] for target, change in self.exact.items()},
        )


def layer_views(
    model: BaseModel,
    checkpoint: Checkpoint,
    run: Inspection,
    layers: Sequence[int] | None = None,
    *,
    kept_pass: Pass | None = None,
) -> dict[int, LayerView]:
    """The layers of an inspection (all by default) at every token, in its mode.

    kept_pass: what `inspect` kept; without it the prompt runs again, once.
    Raises NptVizError for a layer that was not inspected, NotFiniteError for values that are not finite.
    """
    layers = sorted(run.layers if layers is None else layers)
    if missing := [layer for layer in layers if layer not in run.layers]:
        raise NptVizError(
            f"layer {missing[0]} was not inspected; choose among {', '.join(map(str, sorted(run.layers)))}"
        )
    if kept_pass is not None:
        adapters = adapters_of(checkpoint, layers)
        with model.lock:
            of_mode = lane_traces(model, adapters, kept_pass, lane_of(run.mode))
            return _viewed(model, adapters, of_mode)
    # Locally the layers do not influence each other; in the running model they all have to be there.
    adapters = adapters_of(checkpoint, layers if run.mode == "local" else list(run.layers))
    views = views_of(model, adapters, run.token_ids, mode=run.mode, positions=run.positions)
    return {layer: views[layer] for layer in layers}


@torch.no_grad()
def views_of(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    token_ids: Sequence[int],
    *,
    mode: Mode = "local",
    positions: Positions = "deployed",
) -> dict[int, LayerView]:
    """The layers of some adapters on any tokens."""
    with model.lock:
        return _viewed(model, adapters, traces(model, adapters, token_ids, positions=positions).of(mode))


@torch.no_grad()
def _viewed(model, adapters, of_mode: Mapping[int, LayerTrace]) -> dict[int, LayerView]:
    return {layer: view_of(model, adapters[layer], each) for layer, each in of_mode.items()}


def view_of(model: BaseModel, adapter: LayerAdapter, trace: LayerTrace) -> LayerView:
    """One layer from its trace of a whole text; the caller holds the lock."""
    adapter = adapter.of_text(trace.attention)
    parts = model.parts(adapter.layer)
    norm = parts.norm_weight
    hidden, attention, mlp_input = (x.to(norm) for x in (trace.hidden, trace.attention, trace.mlp_input))
    with_attention = mlp_input_of(parts, hidden, attention, "standard")
    plain = mlp_trace(parts.mlp, mlp_input)
    intermediate = adapter.mlp(parts.mlp, attention, mlp_input, plain).intermediate
    home = adapter.home
    view = LayerView(
        **{name: column.to(home) for name, column in trace.columns.items()},
        adapter=adapter,
        mlp=parts.mlp,
        gate=plain.gate.to(home),
        up=plain.up.to(home),
        intermediate=intermediate.to(home),
        down=parts.down(intermediate).to(home),
        exact={
            "gate": (parts.gate(with_attention) - plain.gate).to(home),
            "up": (parts.up(with_attention) - plain.up).to(home),
            "down": attention.to(home),
        },
    )
    refuse_overflow(model, adapter.layer, view.intermediate, "the intermediate m", adapter)
    return view

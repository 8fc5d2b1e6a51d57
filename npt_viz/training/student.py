"""One batch of one layer with its adapter: the inputs of every loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from npt_viz.adapter import (
    Additive,
    LayerAdapter,
    MlpTrace,
    Projected,
    Target,
    mlp_reads_attention,
    mlp_trace,
    projection,
)
from npt_viz.capture.layer_trace import LayerTrace, mlp_input_of, target_of
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor
from npt_viz.training.capturing import LayerTokens
from npt_viz.training.factored import Vectors, vectors_of


@dataclass(frozen=True)
class Ending:
    """Final states of the batch, for losses on logits."""

    final: Float[Tensor, "token model"]
    """After the final norm, of the model with the NPT layer; has a gradient."""
    final_base: Float[Tensor, "token model"]
    """The same of the base model."""
    unembedding: Callable[[Tensor], Tensor]
    """States after the final norm -> logits in float32."""
    gram: Float[Tensor, "model model"]
    """EᵀE of the unembedding's weight."""
    vocab: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Student(LayerTrace):
    """Trace of one batch of tokens; only the adapter, and so `output`, has gradients."""

    adapter: LayerAdapter
    mlp: nn.Module
    """The base layer's SwiGLU module, only called."""
    mlp_with_attention: Float[Tensor, "token model"]
    """MLP(z_C)"""
    trace: MlpTrace
    """The modulated MLP, in the dtype it ran in"""
    training_tokens: LayerTokens | None = None
    """The whole training text at this layer, for what a batch cannot tell"""
    ending: Ending | None = None
    """Only where a loss needs logits"""

    @cached_property
    def baseline(self) -> Float[Tensor, "token model"]:
        """Output that errors are relative to: the MLP's without modulation, or 0 where the attention path is standard.

        There MLP(z_C) without modulation is the target already, and relative to that any error would be infinite.
        """
        return torch.zeros_like(self.target) if self.adapter.attention == "standard" else self.unmodulated

    @property
    def principal(self) -> Float[Tensor, "model q"]:
        """Leading principal directions of h over the training text, not centred."""
        return self.training_tokens.principal.to(self.hidden)

    @cached_property
    def vectors(self) -> dict[Target, tuple[Vectors, Vectors]]:
        """(v_a, v_b) of every target."""
        return {t: vectors_of(m, self.attention) for t, m in self.adapter.learned.items()}

    @cached_property
    def v_a_of_stream(self) -> list[Vectors]:
        """v_a of gate and up, which lives in the space of h and a; that of down lives in d_ffn (see Term.unfit)."""
        return [v_a for target, (v_a, _) in self.vectors.items() if target != "down"]

    def change(self, target: Target) -> Float[Tensor, "token out"]:
        """Σ_j s_j v_b,j: what the modulation adds to the projection's output."""
        x = self.input_of(target)
        modulation = self.adapter.modulation(target)
        if isinstance(modulation, Additive):
            return modulation.change(self.attention, x, self._plain(target, x))
        return modulation.change(self.attention, x)

    def input_of(self, target: Target) -> Float[Tensor, "token inp"]:
        """x of the projection: z for gate and up, m for down."""
        return self.trace.intermediate.to(self.target.dtype) if target == "down" else self.mlp_input

    @torch.no_grad()
    def attention_through(self, target: Target) -> Float[Tensor, "token out"]:
        """W_g a, W_u a, or a itself for down, whose exact change it is (docs/mathematics.md §5)."""
        return self.attention if target == "down" else self._plain(target, self.attention)

    def where(self, mask: Tensor) -> "Student":
        """The same with only the tokens of a (token,) bool mask."""
        ending = self.ending
        if ending is not None:
            ending = replace(ending, final=ending.final[mask], final_base=ending.final_base[mask])
        return replace(self.rows(mask), trace=MlpTrace(*(part[mask] for part in self.trace)), ending=ending)

    def having(self, ending: Ending) -> "Student":
        """The same with its final states."""
        return replace(self, ending=ending)

    def _plain(self, target: Target, x: Tensor) -> Tensor:
        return projection(self.mlp, target)(x.to(self.trace.output.dtype)).to(self.target.dtype)


def student(
    model: BaseModel,
    adapter: LayerAdapter,
    tokens: LayerTokens,
    training_tokens: LayerTokens | None = None,
) -> Student:
    """Run one layer's modulated MLP on captured activations."""
    parts = model.parts(adapter.layer)
    dtype, device = parts.dtype, adapter.home.device
    hidden, attention, mlp_with_attention = (
        t.to(device, dtype) for t in (tokens.hidden, tokens.attention, tokens.mlp_with_attention)
    )
    with torch.no_grad():
        mlp_input = mlp_input_of(parts, hidden, attention, adapter.attention)
        if tokens.unmodulated is None or mlp_reads_attention(adapter.attention):
            plain = mlp_trace(parts.mlp, mlp_input)
            unmodulated = plain.output
        else:
            plain, unmodulated = None, tokens.unmodulated.to(device, dtype)
            if tokens.gate is not None:
                plain = Projected(tokens.gate.to(device, dtype), tokens.up.to(device, dtype))
    trace = adapter.mlp(parts.mlp, attention, mlp_input, plain)
    wide = torch.promote_types(dtype, torch.float32)
    hidden, attention, mlp_with_attention = (t.to(wide) for t in (hidden, attention, mlp_with_attention))
    return Student(
        adapter=adapter,
        mlp=parts.mlp,
        hidden=hidden,
        attention=attention,
        mlp_input=mlp_input.to(wide),
        mlp_with_attention=mlp_with_attention,
        target=target_of(adapter.attention, attention, mlp_with_attention),
        base_attention=attention,
        output=trace.output.to(wide),
        unmodulated=unmodulated.to(wide),
        trace=trace,
        training_tokens=training_tokens,
    )

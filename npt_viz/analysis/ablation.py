"""Ablations of a modulation: its scalar, direction, sign and size, each removed or scaled.

An ablation is a modulation that wraps the learned one, so that it runs wherever an adapter runs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from npt_viz.adapter import Additive, LayerAdapter, LowRank, Modulation, RankOneSum, pooled_over
from npt_viz.adapter.amplified import Amplified
from npt_viz.capture.inspection import scalars_of
from npt_viz.capture.layer_trace import LayerTrace, attention_sinks, fit_of, local_trace
from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.question import Positions
from npt_viz.results.reconstruction import Ablation, AblationTable
from npt_viz.shapes import Float, Tensor

FACTORS = (0.0, 0.5, 2.0, 5.0)
"""Amplifications besides ×1, the layer as it is."""

MAX_TOKENS = 512
"""All versions of a prompt run side by side; a longer prompt is cut here, which changes nothing before the cut."""


class FedWith(nn.Module):
    """The modulation, reading a times a factor. Bias-free N-adapters are even and quadratic in a."""

    def __init__(self, modulation: Modulation, factor: float) -> None:
        super().__init__()
        self.modulation, self.factor = modulation, factor

    def of_text(self, attention: Tensor) -> "FedWith":
        return FedWith(pooled_over(self.modulation, self.factor * attention), self.factor)

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        return self.modulation.change(self.factor * attention, x, unmodulated)


class ConstantScalar(nn.Module):
    """Every component's scalar is the same number at every token; the direction v_b stays the token's own."""

    def __init__(
        self,
        modulation: RankOneSum | LowRank,
        scalars: Float[Tensor, "component"],
        untouched: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.modulation, self.scalars, self.untouched = modulation, scalars, untouched

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        match self.modulation:
            case RankOneSum():
                bottleneck = self.modulation.bottleneck(attention)
                ablated = self.modulation.delta(bottleneck, self.scalars.expand(*bottleneck.shape[:-1]))
            case LowRank():
                ablated = (self.scalars @ self.modulation.B).expand_as(unmodulated)
        return _except(ablated, self.untouched, lambda: self.modulation.change(attention, x, unmodulated))


class OneDirection(nn.Module):
    """Every component's change s_j v_b,j keeps its size at each token but points the same way at all of them.

    Sizes and directions are those of s_j v_b,j: v_b,j alone has a sign that s_j can take back.
    """

    def __init__(
        self,
        modulation: RankOneSum,
        directions: Float[Tensor, "component out"],
        untouched: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.modulation, self.directions, self.untouched = modulation, directions, untouched

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        ablated = component_sizes(self.modulation, attention, x) @ self.directions
        return _except(ablated, self.untouched, lambda: self.modulation.change(attention, x, unmodulated))


def component_sizes(
    modulation: RankOneSum, attention: Float[Tensor, "*batch model"], x: Float[Tensor, "*batch inp"]
) -> Float[Tensor, "*batch component"]:
    """‖scale s_j v_b,j‖, from r x r Gram matrices."""
    p = modulation.bottleneck(attention)
    gram = modulation.W_b_up @ modulation.W_b_up.transpose(1, 2)
    norm_b = torch.einsum("...kr,krs,...ks->...k", p, gram, p).clamp_min(0).sqrt()
    return abs(modulation.scale) * modulation.scalars(p, x).abs() * norm_b


def mean_directions(
    modulation: RankOneSum, attention: Float[Tensor, "token model"], x: Float[Tensor, "token inp"]
) -> Float[Tensor, "component out"]:
    """The direction of the mean over tokens of s_j v_b,j / ‖s_j v_b,j‖; tokens without a change do not count."""
    p = modulation.bottleneck(attention)
    change = modulation.scale * modulation.scalars(p, x)[..., None] * p
    size = component_sizes(modulation, attention, x)[..., None]
    mean = torch.where(size > 0, change / size, torch.zeros_like(change)).mean(0)
    directions = torch.einsum("kr,kro->ko", mean, modulation.W_b_up)
    return directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-30)


class Version(NamedTuple):
    """One layer with one thing about it changed."""

    name: str
    shows: str
    adapter: LayerAdapter


def versions(adapter: LayerAdapter, mlp: nn.Module, trace: LayerTrace, is_sink: Tensor) -> Iterator[Version]:
    """Every ablation that this layer's rule has; the first is the layer as it is.

    Means are over the tokens of `trace` that are no attention sinks; sinks keep their own scalar and direction, so
    that an ablation does not show what a broken sink does to everything above.
    """
    bound = adapter.of_text(trace.attention)
    few = trace if is_sink.all() else trace.rows(~is_sink)
    dtype = next(mlp.parameters()).dtype
    attention, mlp_input = few.attention.to(dtype), few.mlp_input.to(dtype)
    intermediate = bound.mlp(mlp, attention, mlp_input).intermediate

    def wrapped(wrap: Callable[..., nn.Module], source: LayerAdapter = adapter) -> LayerAdapter:
        modulations = {}
        for target, modulation in source.learned.items():
            home = next(modulation.parameters())
            x = intermediate if target == "down" else mlp_input
            modulations[target] = wrap(modulation, attention.to(home), x.to(home))
        return LayerAdapter(adapter.layer, adapter.semantics, modulations)

    rules = {type(modulation) for modulation in adapter.learned.values()}
    yield Version("as it is", "the layer's own modulation, ×1", adapter)
    if Additive not in rules:
        yield Version(
            "mean scalar",
            "the same scalar at every token: is the scalar information, or a constant?",
            wrapped(lambda m, a, x: ConstantScalar(m, scalars_of(m, a, x).mean(0), is_sink), bound),
        )
    if rules == {RankOneSum}:
        yield Version(
            "mean direction",
            "s·v_b points the same way at every token: is the direction information?",
            wrapped(lambda m, a, x: OneDirection(m, mean_directions(m, a, x), is_sink)),
        )
    yield Version(
        "a negated",
        "the adapter reads −a: a bias-free N-adapter cannot tell",
        wrapped(lambda m, a, x: FedWith(m, -1.0)),
    )
    yield Version(
        "a doubled",
        "the adapter reads 2a: a bias-free N-adapter then adds four times as much",
        wrapped(lambda m, a, x: FedWith(m, 2.0)),
    )
    for factor in FACTORS:
        yield Version(
            f"×{factor:g}",
            "no modulation"
            if factor == 0
            else f"{factor:g} times what the modulation adds: is its size right?",
            wrapped(lambda m, a, x, f=factor: Amplified(m, f)),
        )


@torch.no_grad()
def ablation_table(
    model: BaseModel,
    adapter: LayerAdapter,
    token_ids: Sequence[int],
    *,
    positions: Positions = "deployed",
    logits: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> AblationTable:
    """Every ablation of one layer: its error on the base's own activations, and KL with this layer alone changed.

    logits: False leaves KL out and saves the pass through the layers above.
    """
    ids = list(token_ids)[:max_tokens]
    parts = model.parts(adapter.layer)
    with model.lock:
        trace = local_trace(model, adapter, ids, positions=positions)
        is_sink = attention_sinks(trace.hidden)
        tried = list(versions(adapter, parts.mlp, trace, is_sink))
        kl = _kl(model, [version.adapter for version in tried], ids, positions) if logits else None
        rows = [
            Ablation(
                name=version.name,
                meaning=version.shows,
                **_fit(parts.mlp, version.adapter, trace),
                kl=kl[i] if logits else None,
            )
            for i, version in enumerate(tried)
        ]
    return AblationTable(
        layer=adapter.layer,
        rows=tuple(rows),
        is_sink=is_sink.numpy(),
        notes=(f"the first {len(ids):,} of {len(token_ids):,} tokens",) if len(ids) < len(token_ids) else (),
    )


def _fit(mlp: nn.Module, adapter: LayerAdapter, trace: LayerTrace) -> dict:
    dtype = next(mlp.parameters()).dtype
    attention = trace.attention.to(dtype)
    output = adapter.of_text(attention).mlp(mlp, attention, trace.mlp_input.to(dtype)).output
    fit = fit_of(adapter, trace, output.to(trace.target))
    return {name: fit[name] for name in ("recovered", "relative_error")}


def _kl(model: BaseModel, adapters: list[LayerAdapter], ids: list[int], positions: Positions):
    """(version, token) KL(base ‖ base with this one layer), all versions side by side."""
    lanes = [{}, *({adapter.layer: adapter} for adapter in adapters)]
    tokens = torch.tensor([ids])
    final = forward_pass(model, tokens, lanes, positions=positions).final
    return predictions(model, final, tokens[0], top_k=1).kl[1:]


def _except(ablated: Tensor, untouched: Tensor | None, original: Callable[[], Tensor]) -> Tensor:
    if untouched is None or not untouched.any():
        return ablated
    return torch.where(untouched[:, None].to(ablated.device), original(), ablated)

"""Best gate for one token, by bounded least squares on the token's own output.

The intermediate m = u ⊙ σ may be anything that σ ≥ min silu allows, so the best gate solves a bounded least squares
problem, which has no local minima:

    minimise ½‖W_d m − target‖² / ‖target‖² + ½ λ ‖m/u − silu(gate)‖² / ‖silu(gate)‖²   subject to m/u ≥ min silu

In m, rather than in σ, all tokens share one Hessian W_dᵀW_d, and the penalty and the bound are separable: over-relaxed
ADMM solves both halves exactly, with one d_model x d_model inverse for the whole batch, in about a fifth of the steps of
accelerated projected gradient. λ descends with each solution as the next start: of the many gates that reach the
target, the path ends at one close to where the gate was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from npt_viz.adapter import LayerAdapter, mlp_trace
from npt_viz.capture.layer_trace import LayerTrace
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel, weight_of
from npt_viz.progress import CountProgress
from npt_viz.results.reconstruction import GateOracle
from npt_viz.shapes import Float, Tensor

SILU_MINIMUM, SILU_ARGMINIMUM = -0.27846454276107380, -1.2784645427610738

PENALTIES = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Prices λ on moving the gate, from a gate that hardly moves to one that goes where it must."""

RELAXATION = 1.6
"""Between 1 (plain ADMM) and 2."""

MAX_TOKENS = 256


@torch.no_grad()
def gate_oracle(
    model: BaseModel,
    adapter: LayerAdapter,
    trace: LayerTrace,
    *,
    counted: Tensor | None = None,
    max_tokens: int = MAX_TOKENS,
    penalties: Sequence[float] = PENALTIES,
    iterations: int = 30,
    last_iterations: int = 60,
    progress: CountProgress | None = None,
) -> GateOracle:
    """The best gate of up to `max_tokens` tokens, evenly spaced over the prompt, at every price.

    counted: (token,) bool, tokens that may be chosen; attention sinks say nothing here.
    iterations: steps at each price; `last_iterations` at the last.
    progress: called with (steps done, steps in all).

    Raises NptVizError where no token is left.
    """
    parts = model.parts(adapter.layer)
    chosen = sampled_tokens(trace, counted, max_tokens)
    if len(chosen) == 0:
        raise NptVizError(
            f"layer {adapter.layer}: no token is left to solve for; give a prompt with tokens besides attention sinks"
        )
    index = chosen.to(trace.target.device)
    few = trace.rows(index)
    dtype = parts.dtype
    plain = mlp_trace(parts.mlp, few.mlp_input.to(dtype))
    bound = adapter.of_text(trace.attention)
    modulated = bound.mlp(parts.mlp, few.attention.to(dtype), few.mlp_input.to(dtype), plain)
    gate, up = plain.gate.to(few.target), plain.up.to(few.target)
    weight = weight_of(parts.down).to(few.target)

    errors, movements = [], []
    schedule = [last_iterations if i == len(penalties) - 1 else iterations for i in range(len(penalties))]
    done = 0
    solver = BoundedLeastSquares(weight, gate, up, few.target)
    for penalty, steps in zip(penalties, schedule, strict=True):
        solver.descend(penalty, steps)
        delta = solver.delta()
        output = F.linear(up * F.silu(gate + delta), weight)
        errors.append(_relative(output - few.target, few.target))
        movements.append(_relative(delta, gate))
        done += steps
        if progress:
            progress(done, sum(schedule))
    return GateOracle(
        layer=adapter.layer,
        tokens=chosen.cpu().numpy(),
        penalties=tuple(penalties),
        relative_error=np.stack(errors),
        movement=np.stack(movements),
        adapter_error=_relative(few.output - few.target, few.target),
        adapter_movement=_relative(modulated.gate.to(few.target) - gate, gate),
        unmodulated_error=_relative(few.unmodulated - few.target, few.target),
        iterations=sum(schedule),
        notes=tuple(_notes(len(chosen), len(trace.target), counted)),
    )


def cost(model: BaseModel, *, iterations: int = 210) -> float:
    """Forward passes of the base model on the same tokens that the oracle takes, by multiplications; twice that in time."""
    step = 2 * model.d_model * model.d_ffn + model.d_model**2
    return 2 * iterations * step / sum(p.numel() for p in model.hf.parameters())


def sampled_tokens(trace: LayerTrace, counted: Tensor | None, max_tokens: int) -> Tensor:
    """Indices, ascending: all tokens that count and have a target, or evenly spaced ones where they are too many."""
    keep = trace.target.norm(dim=-1).isfinite() & (trace.target.norm(dim=-1) > 0)
    if counted is not None:
        keep &= counted.to(keep.device)
    indices = keep.nonzero()[:, 0]
    if len(indices) > max_tokens:
        indices = indices[torch.linspace(0, len(indices) - 1, max_tokens).round().long().to(indices.device)]
    return indices


class BoundedLeastSquares:
    """The problem of the module docstring on all tokens at once; `m` is feasible at any time."""

    def __init__(
        self,
        weight: Float[Tensor, "model ffn"],
        gate: Float[Tensor, "token ffn"],
        up: Float[Tensor, "token ffn"],
        target: Float[Tensor, "token model"],
    ) -> None:
        self.weight, self.gate, self.up, self.target = weight, gate, up, target
        self.sigma = F.silu(gate)
        self.m = self.start = up * self.sigma
        self.dual = torch.zeros_like(self.m)
        bound = SILU_MINIMUM * up
        # Where u is 0 the unit is dead: any σ gives m = 0.
        self.low = bound.where(up > 0, -torch.inf).where(up != 0, 0.0)
        self.high = bound.where(up < 0, torch.inf).where(up != 0, 0.0)
        # Float64: the smallest eigenvalues of W_d W_dᵀ are lost in float32.
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh((weight @ weight.T).double())

    def descend(self, penalty: float, steps: int) -> None:
        """Lower the objective at this price from where it stands."""
        curvature = self.eigenvalues[-1].item()
        # Stiff where the penalty keeps m in place, soft where the target has to be met.
        rho = curvature * min(max(0.1 * penalty**0.5, 1e-3), 0.1)
        inverse = (self.eigenvectors / (self.eigenvalues + rho)) @ self.eigenvectors.T
        inverse = inverse.to(self.weight)
        price = penalty * _squares(self.target) / _squares(self.sigma).clamp_min(1e-30)
        pull = price / (rho * self.up.square()).clamp_min(1e-20)
        m, dual = self.m, self.dual
        for _ in range(steps):
            point = m - dual
            miss = F.linear(point, self.weight) - self.target
            # (W_dᵀW_d + ρ)⁻¹ (W_dᵀ target + ρ point), by Woodbury in the small dimension.
            fitted = RELAXATION * (point - (miss @ inverse) @ self.weight) + (1 - RELAXATION) * m
            wish = fitted + dual
            m = ((wish + pull * self.start) / (1 + pull)).clamp(self.low, self.high)
            dual = wish - m
        # The dual is in units of ρ; the next price has its own.
        self.m, self.dual = m, torch.zeros_like(m)

    def delta(self) -> Float[Tensor, "token ffn"]:
        """How the gate has to change: silu⁻¹(m/u) − gate, on the branch of the inverse that is nearer."""
        sigma = (self.m / self.up).where(self.up != 0, self.sigma)
        # Rounding of m/u must not move a gate that nothing has moved.
        unmoved = self.m == self.start
        return (nearest_gate(sigma, self.gate) - self.gate).where(~unmoved, 0.0)


def nearest_gate(
    sigma: Float[Tensor, "*batch"], gate: Float[Tensor, "*batch"], *, halvings: int = 40
) -> Float[Tensor, "*batch"]:
    """The x nearest to `gate` with silu(x) = sigma; values below the minimum of silu count as the minimum.

    silu falls from 0 to its minimum at −1.278 and rises from there on: below 0 there are two solutions. Found by
    halving an interval on each branch.
    """
    right = _bisected(sigma, torch.full_like(sigma, SILU_ARGMINIMUM), sigma.clamp_min(0) + 1, 1, halvings)
    # At −100 silu is −0 in float32: nothing lies further left.
    far = torch.full_like(sigma, -100.0)
    left = _bisected(sigma, far, torch.full_like(sigma, SILU_ARGMINIMUM), -1, halvings)
    is_nearer = (sigma < 0) & ((left - gate).abs() < (right - gate).abs())
    return left.where(is_nearer, right)


def _bisected(sigma: Tensor, low: Tensor, high: Tensor, direction: int, halvings: int) -> Tensor:
    """direction: 1 where silu rises between low and high, −1 where it falls."""
    for _ in range(halvings):
        middle = (low + high) / 2
        further = direction * (F.silu(middle) - sigma) < 0
        low, high = middle.where(further, low), high.where(further, middle)
    return (low + high) / 2


def _notes(n_chosen: int, n_tokens: int, counted: Tensor | None) -> Iterator[str]:
    n_counted = n_tokens if counted is None else int(counted.sum())
    if n_chosen < n_counted:
        yield f"{n_chosen} of {n_counted} tokens, evenly spaced"
    if n_counted < n_tokens:
        yield f"attention sinks left out: {n_tokens - n_counted}"


def _squares(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)


def _relative(part: Tensor, whole: Tensor) -> np.ndarray:
    return (part.norm(dim=-1) / whole.norm(dim=-1)).float().cpu().numpy()

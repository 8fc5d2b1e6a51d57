"""Has the modulation collapsed? Four rules, each a number against a threshold with its reason.

Attention outputs are alike from token to token (one direction holds 60 to 80 % of their energy in the middle of a
real model), so the vectors made from them are alike in a healthy adapter too. The yardstick is therefore the same
adapter with every weight drawn anew, which reads the same attention: its vectors are as diverse as this rank and
these tokens allow without training.

Few directions are no collapse by themselves: rank that training left unused, or components that came out alike, do not
change what the layer computes. So the vectors count as collapsed only where one direction would do, too: each token's
vector put onto the one that all share most leaves out nearly nothing of the vectors, nor of what the modulation adds.
"""

import numpy as np
import torch
from torch import nn

from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.pca import effective_rank, singular_values
from npt_viz.analysis.updates import Updates, factors, redrawn
from npt_viz.capture.layer_view import LayerView
from npt_viz.results.directions import MAX_LOST, MIN_REFERENCE, Verdict
from npt_viz.results.estimate import Estimate, median_of
from npt_viz.results.words import tenths
from npt_viz.shapes import Float, Tensor

MIN_DIVERSITY = 0.5
"""Smallest healthy (effective rank − 1) / (that of the redrawn adapter − 1). Measured on SmolLM2-135M, layer 15,
prompts of 3 to 300 tokens: trained and random adapters 0.7 to 1.3; with v_b or v_a put
onto one direction 0.0 to 0.2, and 0.34 at 3 tokens."""

MIN_SCALAR_VARIATION = 2.0**-7
"""Smallest sd / |mean| of a scalar that is not constant: one step of bfloat16. A scalar that varies little is no fault:
trained adapters that recover 40 to 90 % of what attention does have 0.04 to 0.4."""

NEARLY_CONSTANT = 0.2
"""sd / |mean| below which the sentence says that the scalar varies little."""

MIN_SIZE = 2.0**-9
"""Smallest ‖s·v_b‖ / ‖projection's own output‖ that counts: half a step of bfloat16, in which it is rounded away."""

N_DRAWS = 4


@torch.no_grad()
def verdicts(view: LayerView, target: str | None = None, *, seed: int = 0) -> tuple[Verdict, ...]:
    """Size, scalar, s·v_b and v_a of one target, at the tokens of the view (three or more, sinks left out).

    Raises NptVizError where the layer has no weight change there.
    """
    target, modulation = view.weight_change(target)
    inputs = view.attention, view.read_by(target)
    updates = factors(modulation, *inputs)
    size = _size(updates, view.plain_output(target), target)
    if size.collapsed:
        return (size,)
    generator = torch.Generator().manual_seed(seed)
    others = [factors(redrawn(modulation, generator), *inputs) for _ in range(N_DRAWS)]
    effects, x = updates.effects().vectors(), view.read_by(target)
    sets = {
        "s·v_b": ("what is added", lambda u: u.effects().coordinates(), _onto_one(effects)),
        "v_a": ("what reads the token", _inputs, _read_by_one(updates, x)),
    }
    return (
        size,
        _scalar(updates),
        *(
            _diversity(
                name,
                meaning,
                vectors(updates),
                [vectors(other) for other in others],
                _lost(view, target, added),
            )
            for name, (meaning, vectors, added) in sets.items()
        ),
    )


def _onto_one(vectors: Float[Tensor, "token axis"]) -> Float[Tensor, "token axis"]:
    """The vectors put onto the direction that they share most: their first principal axis, not centred."""
    # With V = U Σ Wᵀ it is V w₁ w₁ᵀ = u₁ u₁ᵀ V, and u₁ is an eigenvector of the small V Vᵀ.
    own = vectors.double()
    first = torch.linalg.eigh(own @ own.T).eigenvectors[:, -1:]
    return (first @ (first.T @ own)).to(vectors)


def _read_by_one(updates: Updates, x: Float[Tensor, "token inp"]) -> Float[Tensor, "token out"]:
    """Σ_j s_j v_b,j with each component's v_a put onto the direction that its tokens share most."""
    parts = []
    for j in range(updates.n_components):
        scalars = (_onto_one(updates.inputs(j).vectors()) * x).sum(-1, keepdim=True)
        parts.append(scalars * updates.outputs(j).vectors())
    return torch.stack(parts).sum(0)


def _lost(view: LayerView, target: str, added: Float[Tensor, "token out"]) -> Estimate:
    """‖ŷ₁ − ŷ‖² / ‖ŷ − MLP(z)‖² over tokens, ŷ₁ with `added` in place of what this target's modulation adds."""
    dtype = next(view.mlp.parameters()).dtype
    modulations = dict(view.adapter.modulations.items()) | {target: Given(added)}
    other = LayerAdapter(view.layer, view.adapter.semantics, modulations)
    output = other.mlp(view.mlp, view.attention.to(dtype), view.mlp_input.to(dtype)).output.to(view.output)
    change = (view.output - view.unmodulated).norm(dim=-1)
    lost = (output - view.output).norm(dim=-1) / change.where(change > 0, torch.nan)
    return median_of(lost.square().cpu().numpy())


class Given(nn.Module):
    """A modulation that adds what it is given, to the tokens that it was made for."""

    def __init__(self, added: Float[Tensor, "token out"]) -> None:
        super().__init__()
        self.added = nn.Parameter(added, requires_grad=False)

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        return self.added


def _size(updates: Updates, own: Float[Tensor, "token out"], target: str) -> Verdict:
    relative = (updates.effects().norms() / own.norm(dim=-1).cpu().double()).median().item()
    collapsed = not relative >= MIN_SIZE
    verb = "too small to matter" if collapsed else "large enough to matter"
    return Verdict(
        name="size",
        collapsed=collapsed,
        evidence={f"median ‖s·v_b‖ / ‖{target} output‖": relative},
        threshold=MIN_SIZE,
        sentence=f"The modulation is {verb}: it moves the {target} by {relative:.2g} of its size.",
    )


def _scalar(updates: Updates) -> Verdict:
    scalars = updates.scalars.cpu().double()
    variation = (scalars.std(0) / scalars.mean(0).abs().clamp_min(1e-30)).numpy()
    component = int(np.argmax(variation))
    most, mean = float(variation[component]), float(scalars[:, component].mean())
    of = "" if updates.n_components == 1 else f" of the most varying of {updates.n_components} components"
    collapsed = most < MIN_SCALAR_VARIATION
    judged = "varies little" if most < NEARLY_CONSTANT else "differs between tokens"
    judged = "is the same at every token" if collapsed else judged
    return Verdict(
        name="scalar",
        collapsed=collapsed,
        evidence={"sd / |mean|": most, "mean": mean},
        threshold=MIN_SCALAR_VARIATION,
        sentence=f"The scalar{of} {judged}: mean {mean:.3g}, sd / |mean| {most:.2g}.",
    )


def _diversity(
    name: str,
    meaning: str,
    vectors: Float[Tensor, "token axis"],
    yardsticks: list[Float[Tensor, "token other_axis"]],
    lost: Estimate,
) -> Verdict:
    """The redrawn directions get the measured norms, so that one long vector counts alike on both sides."""
    norms = vectors.norm(dim=-1, keepdim=True)
    measured = effective_rank(singular_values(vectors))
    expected = float(
        np.mean(
            [
                effective_rank(singular_values(norms * torch.nn.functional.normalize(other, dim=-1)))
                for other in yardsticks
            ]
        )
    )
    told_apart = expected >= MIN_REFERENCE
    diversity = (measured - 1) / (expected - 1) if told_apart else float("nan")
    energy = singular_values(vectors) ** 2
    left_out = float(1 - energy[0] / energy.sum())
    one_does = left_out < MAX_LOST and lost.high < MAX_LOST
    collapsed = diversity < MIN_DIVERSITY and one_does
    if not told_apart:
        judged = "cannot be judged: at this rank and on these tokens any adapter would use one direction"
    elif not np.isfinite(lost.low):
        judged = "cannot be judged: too few tokens tell what one direction would leave out"
    elif collapsed:
        judged = "has collapsed towards one direction"
    else:
        judged = "differs little from token to token" if one_does else "differs from token to token"
    return Verdict(
        name=name,
        collapsed=collapsed,
        evidence={
            "diversity": diversity,
            "effective rank": measured,
            "redrawn adapter": expected,
            "left out by one direction": left_out,
            "lost with one direction": lost.value,
            "lost, at least": lost.low,
            "lost, at most": lost.high,
        },
        threshold=MIN_DIVERSITY,
        sentence=f"{name}, {meaning}, {judged}: effective rank {measured:.1f} against {expected:.1f} "
        f"of the same adapter with redrawn weights (mean of {len(yardsticks)}); one direction for all tokens leaves "
        f"out {tenths(left_out)} of their energy and {tenths(lost.value)} of what the modulation adds to the layer's output "
        f"(median of {lost.n} tokens).",
    )


def _inputs(updates: Updates) -> Float[Tensor, "token axis"]:
    """v_a of all components side by side, each weighted with its ‖v_b‖, so that only ΔW matters and not the gauge."""
    parts = [
        updates.inputs(j).coordinates() * updates.outputs(j).norms()[:, None]
        for j in range(updates.n_components)
    ]
    return torch.cat(parts, dim=-1)

"""Has the modulation collapsed? Four rules, each a number against a threshold with its reason.

Attention outputs are alike from token to token (one direction holds 60 to 80 % of their energy in the middle of a
real model), so the vectors made from them are alike in a healthy adapter too. The yardstick is therefore the same
adapter with every weight drawn anew, which reads the same attention: its vectors are as diverse as this rank and
these tokens allow without training.
"""

import numpy as np
import torch

from npt_viz.analysis.pca import effective_rank, singular_values
from npt_viz.analysis.updates import Updates, factors, redrawn
from npt_viz.capture.layer_view import LayerView
from npt_viz.results.directions import Verdict
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

MIN_REFERENCE = 1.1
"""Effective rank of the redrawn adapter below which tokens are too alike to tell."""

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
    sets = {
        "s·v_b": ("what is added", lambda u: u.effects().coordinates()),
        "v_a": ("what reads the token", _inputs),
    }
    return (
        size,
        _scalar(updates),
        *(
            _diversity(name, meaning, vectors(updates), [vectors(other) for other in others])
            for name, (meaning, vectors) in sets.items()
        ),
    )


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
    collapsed = diversity < MIN_DIVERSITY
    if not told_apart:
        judged = "cannot be judged: at this rank and on these tokens any adapter would use one direction"
    else:
        judged = "has collapsed towards one direction" if collapsed else "differs from token to token"
    return Verdict(
        name=name,
        collapsed=collapsed,
        evidence={"diversity": diversity, "effective rank": measured, "redrawn adapter": expected},
        threshold=MIN_DIVERSITY,
        sentence=f"{name}, {meaning}, {judged}: effective rank {measured:.1f} against {expected:.1f} "
        f"of the same adapter with redrawn weights (mean of {len(yardsticks)}).",
    )


def _inputs(updates: Updates) -> Float[Tensor, "token axis"]:
    """v_a of all components side by side, each weighted with its ‖v_b‖, so that only ΔW matters and not the gauge."""
    parts = [
        updates.inputs(j).coordinates() * updates.outputs(j).norms()[:, None]
        for j in range(updates.n_components)
    ]
    return torch.cat(parts, dim=-1)

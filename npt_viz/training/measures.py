"""Measurements of a step and of an evaluation, without gradients."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from npt_viz.adapter import Additive, LayerAdapter, LowRank, Target
from npt_viz.capture.layer_trace import fit_columns
from npt_viz.results.estimate import median_of
from npt_viz.results.training import HeldOut, TargetStep
from npt_viz.shapes import Float, Tensor
from npt_viz.training.factored import EPSILON, vectors_of
from npt_viz.training.student import Student

NOTHING = TargetStep(
    scalar_mean=math.nan,
    scalar_variance=math.nan,
    v_a_norm=math.nan,
    v_b_norm=math.nan,
    update_norm=math.nan,
    attention_similarity=math.nan,
)
"""Of a modulation without v_a and v_b."""


@torch.no_grad()
def measured_targets(student: Student) -> dict[str, TargetStep]:
    """Measurements of every target's modulation on one batch."""
    return {target: _measured(student, target) for target in student.adapter.targets}


def _measured(student: Student, target: Target) -> TargetStep:
    modulation = student.adapter.modulation(target)
    if isinstance(modulation, Additive):
        return NOTHING
    v_a, v_b = student.vectors[target]
    scalar = v_a.dot(student.input_of(target))
    norm_a, norm_b = (v.squared_norm().clamp_min(0).sqrt() for v in (v_a, v_b))
    if modulation.components == 1:  # The product of the norms is exact and cheap.
        update = (norm_a * norm_b)[:, 0]
    elif isinstance(modulation, LowRank):  # Its r components would make (token, r, r) overlaps.
        update = modulation.update_norm(student.attention)
    else:
        update = (v_a.overlaps() * v_b.overlaps()).sum((1, 2)).clamp_min(0).sqrt()
    similarity = scalar.new_tensor(math.nan)
    if target != "down":
        sizes = (norm_a * student.attention.norm(dim=-1, keepdim=True)).clamp_min(EPSILON)
        similarity = (v_a.dot(student.attention) / sizes).mean()
    numbers = torch.stack(
        [
            scalar.mean(),
            scalar.var(dim=0, correction=0).mean(),
            norm_a.mean(),
            norm_b.mean(),
            update.mean(),
            similarity,
        ]
    ).tolist()
    names = ("scalar_mean", "scalar_variance", "v_a_norm", "v_b_norm", "update_norm", "attention_similarity")
    return TargetStep(**dict(zip(names, numbers, strict=True)))


def gradient_cosines(gradients: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """(term, term) cosines between the gradients of several terms, each a tensor a parameter; NaN for a zero one."""
    n = len(gradients)
    products = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            dots = [(a * b).sum() for a, b in zip(gradients[i], gradients[j], strict=True)]
            products[i, j] = products[j, i] = torch.stack(dots).sum().item()
    norms = np.sqrt(np.diag(products))
    with np.errstate(invalid="ignore", divide="ignore"):
        return products / np.outer(norms, norms)


@torch.no_grad()
def evaluated(layer: int, batches: Iterable[tuple[Student, Float[Tensor, "token"] | Tensor]]) -> HeldOut:
    """Evaluation of one layer on held-out batches, each with the mask of its attention sinks."""
    columns, sinks = [], []
    for student, is_sink in batches:
        fit = fit_columns(student.output, student.unmodulated, student.target)
        recovered, relative = (torch.from_numpy(fit[name]) for name in ("recovered", "relative_error"))
        if student.adapter.attention == "standard":  # Nothing was withheld, so there is nothing to recover.
            recovered = torch.full_like(recovered, torch.nan)
        scalar = _first_scalar(student.adapter, student).cpu()
        columns.append(torch.stack([recovered.to(scalar), relative.to(scalar), scalar]))
        sinks.append(is_sink.cpu())
    recovered, relative, scalar = torch.cat(columns, dim=1)
    keep = ~torch.cat(sinks)
    share = median_of(recovered[keep].numpy())
    return HeldOut(
        layer=layer,
        recovered=share.value,
        recovered_low=share.low if math.isfinite(share.low) else math.nan,
        recovered_high=share.high if math.isfinite(share.high) else math.nan,
        relative_error=relative[keep].nanmedian().item(),
        sink_recovered=recovered[~keep].nanmedian().item() if (~keep).any() else math.nan,
        scalar_mean=scalar[keep].mean().item(),
        scalar_std=scalar[keep].std().item(),
        n_tokens=int(keep.sum()),
    )


def _first_scalar(adapter: LayerAdapter, student: Student) -> Float[Tensor, "token"]:
    target, modulation = next(iter(adapter.learned.items()))
    if isinstance(modulation, Additive):
        return torch.full_like(student.output[:, 0], torch.nan)
    return vectors_of(modulation, student.attention)[0].dot(student.input_of(target))[:, 0]

"""Weights of the losses of a published run: raw losses times weights, compared with the logged total."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npt_viz.results.training import Curves
from npt_viz.runs.config import Published

Layers = Mapping[int | None, Curves]
Weights = Callable[[Sequence[str], np.ndarray], dict[str, np.ndarray]]
"""(losses, steps) -> each loss's weight at those steps."""

AGREES = 0.02
"""Median relative distance from the logged total up to which a guess counts as right."""


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """One reading of how a run was weighted."""

    layers: Layers
    """With columns `weight/…`, `weighted/…` and `share/…`."""
    note: str
    staged: bool


def weighted(layers: Layers, settings: Published, *, logs_stages: bool) -> Weighting | None:
    """The run with its weighted parts, under the reading that comes closest to the logged total.

    Without weights in a config the published defaults are tried, and only kept where they give the total.
    logs_stages: whether the log itself says that the recipe has stages. None where nothing could be reconstructed.
    """
    from npt_viz.training.losses.weighting import COMPOSITE, STAGE_STEPS

    terms = dict.fromkeys(term for curves in layers.values() for term in curves.parts("loss"))
    weights = {term: settings.weights.get(term, COMPOSITE.get(term)) for term in terms}
    weights = {term: weight for term, weight in weights.items() if weight is not None}
    if len(weights) < 1 or not terms.keys() & COMPOSITE.keys():
        return None
    stage_steps = settings.stage_steps or (STAGE_STEPS if logs_stages or not settings.weights else None)
    readings = [(_constant(weights), False)]
    if stage_steps is not None:
        readings.append((_staged(weights, stage_steps), True))
    candidates = [(_with_parts(layers, reading, settings), staged) for reading, staged in readings]
    distances = [_distance(parts, settings) for parts, _ in candidates]
    has_total = np.isfinite(distances).any()
    if not has_total and not settings.weights:
        return None
    # Without a total to compare with, the stages are believed that the log or the config speaks of.
    best = int(np.nanargmin(distances)) if has_total else len(candidates) - 1
    if not settings.weights and distances[best] > AGREES:
        return None
    chosen, staged = candidates[best]
    return Weighting(
        layers=chosen, note=_note(settings, weights, staged, stage_steps, distances[best]), staged=staged
    )


def _constant(weights: Mapping[str, float]) -> Weights:
    return lambda terms, steps: {t: np.full(len(steps), weights[t], float) for t in terms if t in weights}


def _staged(weights: Mapping[str, float], stage_steps: int) -> Weights:
    from npt_viz.training.losses.weighting import staged_weights

    # On a line from S to 3S, and constant before and after.
    first, middle, last = (staged_weights(weights, turn * stage_steps, stage_steps) for turn in (1, 2, 3))

    def at(terms: Sequence[str], steps: np.ndarray) -> dict[str, np.ndarray]:
        way = np.clip((steps - stage_steps) / stage_steps, 0, 2)
        rising = {t: first[t] + way * (middle[t] - first[t]) for t in terms if t in weights}
        return {t: np.where(steps < 3 * stage_steps, weight, last[t]) for t, weight in rising.items()}

    return at


def _with_parts(layers: Layers, weights: Weights, settings: Published) -> Layers:
    weighted_layers = {}
    for layer, curves in layers.items():
        factor = 1.0 if layer is None else settings.layer_weights.get(layer, 1.0)
        used = {t: factor * w for t, w in weights(curves.parts("loss"), curves.steps).items()}
        parts = {t: w * curves.columns[f"loss/{t}"] for t, w in used.items()}
        size = sum((np.abs(np.nan_to_num(part)) for part in parts.values()), np.zeros(len(curves.steps)))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = {t: np.abs(part) / np.where(size > 0, size, np.nan) for t, part in parts.items()}
        columns = dict(curves.columns)
        columns |= {f"weight/{t}": np.where(np.isfinite(parts[t]), w, np.nan) for t, w in used.items()}
        columns |= {f"weighted/{t}": part for t, part in parts.items()}
        if len(parts) > 1:
            columns |= {f"share/{t}": share for t, share in shares.items()}
        weighted_layers[layer] = replace(curves, columns=columns)
    return weighted_layers


def _distance(layers: Layers, settings: Published) -> float:
    """Median over steps of |Σ parts − total| / |total|; NaN where no total is logged beside the losses."""
    owner = next((curves for curves in layers.values() if "total" in curves.columns), None)
    if owner is None:
        return float("nan")
    total, parts = owner.columns["total"], np.zeros(len(owner.steps))
    for curves in layers.values():
        if not np.array_equal(curves.steps, owner.steps):
            continue
        for term in curves.parts("weighted"):
            parts = parts + curves.columns[f"weighted/{term}"]
    there = np.isfinite(total) & np.isfinite(parts) & (total != 0)
    return (
        float(np.median(np.abs(parts - total)[there] / np.abs(total[there]))) if there.any() else float("nan")
    )


def _note(
    settings: Published, weights: Mapping[str, float], staged: bool, stage_steps: int | None, distance: float
) -> str:
    named = ", ".join(
        f"{term} {weight:g}" + ("" if term in settings.weights or not settings.weights else " (default)")
        for term, weight in weights.items()
    )
    source = "the config's weights" if settings.weights else "the published default weights"
    stages = f" in three stages (S = {stage_steps:,})" if staged else ", constant"
    if np.isnan(distance):
        check = "no total is logged to check the sum against"
    elif distance <= AGREES:
        check = f"their sum is the logged total (median deviation {distance:.1%})"
    else:
        check = (
            f"their sum is not the logged total (median deviation {distance:.0%}), so the log leaves out a loss or the "
            "weights were others; the shares are of what is known"
        )
    return f"Weighted parts are reconstructed from {source} {named}{stages}: {check}."

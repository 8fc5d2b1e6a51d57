"""Lines of a run to draw and to compare: smoothed, thinned to what a screen can show, summed up."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np

from npt_viz.results.runs import Axis, Line, Run, Shares, Summary
from npt_viz.results.training import Curves

POINTS = 3000
"""Of a line that are drawn at most; of a longer one the smallest and the largest of every bucket."""

RISING = ("recovered",)
FALLING = ("total", "loss", "relative_error", "distillation")
_TERMS_HELDOUT = ("heldout/direct", "heldout/fidelity")


def line(
    run: Run, layer: int | None, column: str, *, x: Axis = "step", smoothing: float = 0.0
) -> Line | None:
    """One column along the steps, the seconds or the tokens; None where the run does not have both.

    smoothing: β of the moving average m ← β m + (1 − β) y, divided by its weight so far (0 begins at y); 0 for none.
    """
    curves = run.layers[layer]
    along = curves.steps.astype(float) if x == "step" else curves.columns.get(x)
    values = curves.columns.get(column)
    if along is None or values is None:
        return None
    there = np.isfinite(values) & np.isfinite(along)
    if not there.any():
        return None
    smooth = np.full(len(values), np.nan)
    smooth[there] = moving_average(values[there], smoothing) if smoothing else np.nan
    drawn = np.flatnonzero(there)[extremes(values[there], POINTS)]
    drawn = np.sort(np.concatenate([drawn, _gaps(curves, column, there)]))
    return Line(
        series=series_name(run, layer),
        column=column,
        x=along[drawn],
        y=np.where(there, values, np.nan)[drawn],
        smooth=smooth[drawn] if smoothing else None,
        n_values=int(there.sum()),
    )


def _gaps(curves: Curves, column: str, there: np.ndarray) -> np.ndarray:
    """Rows at which a line is interrupted: the first of each stretch that was logged without a finite number."""
    is_gap = np.isin(curves.steps, curves.gaps.get(column, ())) & ~there
    rows = np.flatnonzero(is_gap)
    _, first = np.unique(np.cumsum(there)[rows], return_index=True)
    return rows[first]


def shares(run: Run, layer: int | None) -> Shares | None:
    """Each loss's share of the weighted total; None where it is not known, or there is one loss only."""
    curves = run.layers[layer]
    terms = curves.parts("share")
    if len(terms) < 2:
        return None
    values = np.stack([curves.columns[f"share/{term}"] for term in terms])
    there = np.isfinite(values).any(0)
    if not there.any():
        return None
    values = np.nan_to_num(values[:, there])
    # Means of buckets, so that thinned shares still add up to 1.
    starts = np.unique(
        np.linspace(0, there.sum(), min(POINTS // 4, int(there.sum())), endpoint=False).astype(int)
    )
    counts = np.diff([*starts, there.sum()])
    means = np.add.reduceat(values, starts, axis=1) / counts
    return Shares(
        series=series_name(run, layer),
        steps=curves.steps[there][starts],
        shares=dict(zip(terms, means, strict=True)),
    )


def summary(run: Run, layer: int | None, column: str) -> Summary | None:
    """First, last and best value of a column; None where it was never measured."""
    steps, values = run.layers[layer].measured(column)
    if not len(values):
        return None
    direction = better(column)
    best = None if direction is None else int(values.argmin() if direction == "low" else values.argmax())
    return Summary(
        series=series_name(run, layer),
        column=column,
        first=float(values[0]),
        last=float(values[-1]),
        last_step=int(steps[-1]),
        best=float("nan") if best is None else float(values[best]),
        best_step=None if best is None else int(steps[best]),
        n_values=len(values),
    )


def better(column: str) -> Literal["low", "high"] | None:
    """Which end of a column is better: low, high, or None (a norm, a weight, a similarity)."""
    if column.startswith(("weight", "share", "gradient", "cosine")):
        return None
    if column.endswith(RISING):
        return "high"
    is_loss = column in _TERMS_HELDOUT or any(word in column for word in FALLING)
    return "low" if is_loss else None


def series_name(run: Run, layer: int | None) -> str:
    """The run's name, with the layer where it has several."""
    if len(run.layers) == 1:
        return run.name
    return f"{run.name} · all layers" if layer is None else f"{run.name} · layer {layer}"


def moving_average(values: np.ndarray, beta: float) -> np.ndarray:
    """m_t = Σ β^(t−i) y_i / Σ β^(t−i) over i ≤ t."""
    averages = np.empty(len(values))
    total = weight = 0.0
    for i, value in enumerate(values.tolist()):
        total, weight = beta * total + value, beta * weight + 1
        averages[i] = total / weight
    return averages


def extremes(values: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most about `points` values: first, last, and of every bucket the smallest and the largest."""
    if len(values) <= points:
        return np.arange(len(values))
    return np.unique([0, len(values) - 1, *_ends_of_buckets(values, points // 2)])


def _ends_of_buckets(values: np.ndarray, buckets: int) -> Iterator[int]:
    edges = np.linspace(0, len(values), buckets + 1).astype(int)
    for start, end in pairwise(edges):
        yield start + int(values[start:end].argmin())
        yield start + int(values[start:end].argmax())

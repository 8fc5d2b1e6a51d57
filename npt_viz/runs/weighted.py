"""Weights of the losses of a published run: kept only where raw losses times weights add up to the logged total."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npt_viz.results.training import Curves
from npt_viz.runs.config import Published

Layers = Mapping[int | None, Curves]
Weights = Callable[[Sequence[str], np.ndarray], dict[str, np.ndarray]]
"""(losses, steps) -> each loss's weight at those steps."""

AGREES = 5e-3
"""Largest deviation from the logged total, over 95 % of the steps, up to which weights count as right.

The public code logs float32 values in full (deviation below 1e-6); a log rounded to four decimals stays below 0.5 %.
Another published weighting misses by 10 % and more.
"""

FITS = 1e-4
"""The same for weights that are found from the log: they may be anything, so the sum has to be closer."""

PUBLISHED_WEIGHTS: dict[str, dict[str, float]] = {
    "the published single-layer weights": {"direct": 1.0, "fidelity": 0.1, "regularisation": 0.001},
    "the published multi-layer weights": {"direct": 10.0, "fidelity": 1.0, "regularisation": 0.01},
    "the published guided weights": {
        "direct": 100.0,
        "attention_encoding": 1.0,
        "fidelity": 10.0,
        "regularisation": 0.001,
    },
}
"""Weights of the public trainers that their config.json does not repeat, beside the composite loss."""

MOST_STARTS = 256
"""Starts of stage 2 that are tried where the log names its stages."""


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """What is known of how a run was weighted."""

    layers: Layers
    """With columns `weight/…`, `weighted/…` and `share/…` where the weights give the logged total."""
    note: str
    stage_steps: int | None = None
    """S of the three stages, where the logged total shows them."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One way in which a run may have been weighted."""

    name: str
    weights: Weights
    named: Mapping[str, float]
    stage_steps: int | None = None


def weighted(layers: Layers, settings: Published, stages: Sequence[tuple[int, str]] = ()) -> Weighting | None:
    """The run with its weighted parts, where some reading of the weights adds up to the logged total.

    stages: (first step, name) of the stages that the log names. None where no loss is logged.
    """
    terms = list(dict.fromkeys(term for curves in layers.values() for term in curves.parts("loss")))
    if not terms:
        return None
    if not any("total" in curves.columns for curves in layers.values()):
        return Weighting(
            layers=layers,
            note="Losses are shown unweighted: no total is logged that would show what they were weighted with.",
        )
    tried = []
    for reading in _readings(terms, settings, stages, layers):
        parts = _with_parts(layers, reading.weights, settings)
        deviation = _deviation(parts)
        if deviation <= AGREES:
            return Weighting(
                layers=parts, note=_note(reading, settings, deviation), stage_steps=reading.stage_steps
            )
        tried.append((deviation, reading.name))
    fitted = _fitted(layers)
    if fitted is not None:
        parts, named = fitted
        note = (
            f"Weighted parts are of weights found from the log itself ({named}): at 95 % of the steps their sum is the "
            f"logged total to {_deviation(parts):.1e}."
        )
        return Weighting(layers=parts, note=note)
    return Weighting(layers=layers, note=_unweighted(tried))


def _readings(
    terms: Sequence[str], settings: Published, stages: Sequence[tuple[int, str]], layers: Layers
) -> Iterator[_Reading]:
    """Weights of the config first, then those of the public trainers, constant and in stages."""
    from npt_viz.training.losses.weighting import COMPOSITE, STAGE_STEPS

    seen = []
    for source, published in {"the published composite weights": COMPOSITE, **PUBLISHED_WEIGHTS}.items():
        # The config says what was asked for, in part; the rest are the trainer's own.
        weights = {t: settings.weights.get(t, published.get(t)) for t in terms}
        known = {t: weight for t, weight in weights.items() if weight is not None}
        if not known or known in seen:
            continue
        seen.append(known)
        from_config = settings.weights.keys() & known.keys()
        name = "the config's weights" if known.keys() <= from_config else source
        name += " with those of the config" if from_config and name == source else ""
        yield _Reading(name=name, weights=_constant(known), named=known)
        if "attention_encoding" in known or settings.stage_steps:
            for start in _starts(settings, stages, layers) or [STAGE_STEPS]:
                # A trainer may count a step before or after its update.
                for shift in (0, 1):
                    yield _Reading(
                        name=f"{name} in three stages (S = {start:,})",
                        weights=_staged(known, start, shift),
                        named=known,
                        stage_steps=start,
                    )


def _starts(settings: Published, stages: Sequence[tuple[int, str]], layers: Layers) -> list[int]:
    """S: of the config, else every step between the last line of stage 1 and the first of stage 2."""
    if settings.stage_steps:
        return [settings.stage_steps]
    second = next((step for step, label in stages if label == "stage 2"), None)
    if second is None or second == 0:
        return []
    logged = np.concatenate([curves.steps for curves in layers.values()])
    before = logged[logged < second]
    first = int(before.max()) + 1 if len(before) else 1
    return list(range(second, max(first, second - MOST_STARTS, 1) - 1, -1))


def _constant(weights: Mapping[str, float]) -> Weights:
    return lambda terms, steps: {t: np.full(len(steps), weights[t], float) for t in terms if t in weights}


def _staged(weights: Mapping[str, float], stage_steps: int, shift: int) -> Weights:
    from npt_viz.training.losses.weighting import staged_weights

    # On a line from S to 3S, and constant before and after.
    first, middle, last = (staged_weights(weights, turn * stage_steps, stage_steps) for turn in (1, 2, 3))

    def at(terms: Sequence[str], steps: np.ndarray) -> dict[str, np.ndarray]:
        done = steps - shift
        way = np.clip((done - stage_steps) / stage_steps, 0, 2)
        rising = {t: first[t] + way * (middle[t] - first[t]) for t in terms if t in weights}
        return {t: np.where(done < 3 * stage_steps, weight, last[t]) for t, weight in rising.items()}

    return at


def _with_parts(layers: Layers, weights: Weights, settings: Published) -> Layers:
    return {
        layer: _weighing(
            curves,
            {
                term: weight * (1.0 if layer is None else settings.layer_weights.get(layer, 1.0))
                for term, weight in weights(curves.parts("loss"), curves.steps).items()
            },
        )
        for layer, curves in layers.items()
    }


def _weighing(curves: Curves, used: Mapping[str, np.ndarray]) -> Curves:
    """With columns weight, weighted and share. used: loss -> its weight at every step."""
    parts = {t: w * curves.columns[f"loss/{t}"] for t, w in used.items()}
    size = sum((np.abs(np.nan_to_num(part)) for part in parts.values()), np.zeros(len(curves.steps)))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {t: np.abs(part) / np.where(size > 0, size, np.nan) for t, part in parts.items()}
    columns = dict(curves.columns)
    columns |= {f"weight/{t}": np.where(np.isfinite(parts[t]), w, np.nan) for t, w in used.items()}
    columns |= {f"weighted/{t}": part for t, part in parts.items()}
    if len(parts) > 1:
        columns |= {f"share/{t}": share for t, share in shares.items()}
    return replace(curves, columns=columns)


def _deviation(layers: Layers) -> float:
    """|Σ parts − total| / |total|, at the 95th percentile of the steps; infinite where there is no such step."""
    total, _, parts = _sum(layers, "weighted")
    summed = parts.sum(1)
    there = np.isfinite(total) & np.isfinite(summed) & (total != 0)
    if not there.any():
        return math.inf
    return float(np.quantile(np.abs(summed - total)[there] / np.abs(total[there]), 0.95))


def _sum(layers: Layers, prefix: str) -> tuple[np.ndarray, list[tuple[int | None, str]], np.ndarray]:
    """(the logged total, (layer, loss) of every column, (step, loss)) of the layers that share the total's steps."""
    owner = next(curves for curves in layers.values() if "total" in curves.columns)
    names, columns = [], []
    for layer, curves in layers.items():
        if np.array_equal(curves.steps, owner.steps):
            for term in curves.parts(prefix):
                names.append((layer, term))
                columns.append(curves.columns[f"{prefix}/{term}"])
    parts = np.stack(columns, axis=1) if columns else np.full((len(owner.steps), 1), np.nan)
    return owner.columns["total"], names, parts


def _fitted(layers: Layers) -> tuple[Layers, str] | None:
    """The run under the one set of constant weights that gives the logged total, and those weights in words.

    None where no constant weights do, and where the log does not tell them apart: fewer steps than three times the
    losses, losses that go together, a weight known to less than 1 %.
    """
    total, names, losses = _sum(layers, "loss")
    there = np.isfinite(total) & np.isfinite(losses).all(1) & (total != 0)
    if not names or there.sum() < 3 * len(names):
        return None
    used = np.abs(losses[there]).max(0) > 0
    # Every step counts alike, whatever the size of its total.
    rows = losses[there][:, used] / np.abs(total[there])[:, None]
    scale = np.linalg.norm(rows, axis=0)
    weights, _, rank, _ = np.linalg.lstsq(rows / scale, np.sign(total[there]), rcond=1e-9)
    if rank < used.sum():
        return None
    left = rows / scale @ weights - np.sign(total[there])
    spread = np.sqrt(np.diag(np.linalg.inv((rows / scale).T @ (rows / scale)))) * max(left.std(), 1e-7)
    if np.quantile(np.abs(left), 0.95) > FITS or (weights <= 0).any() or (spread > 0.01 * weights).any():
        return None
    found = dict(zip((name for name, u in zip(names, used, strict=True) if u), weights / scale, strict=True))
    # Weights are round numbers; the last digits are the log's rounding.
    found = {name: float(f"{weight:.4g}") for name, weight in found.items()}
    parts = {
        layer: _weighing(
            curves,
            {
                term: np.full(len(curves.steps), found.get((layer, term), 0.0))
                for term in curves.parts("loss")
                if (layer, term) in found
            },
        )
        for layer, curves in layers.items()
    }
    if _deviation(parts) > FITS:
        return None
    several = len({layer for layer, _ in found}) > 1
    words = [
        f"{term}{f' of layer {layer}' if several and layer is not None else ''} {weight:g}"
        for (layer, term), weight in found.items()
    ]
    return parts, ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _note(reading: _Reading, settings: Published, deviation: float) -> str:
    named = ", ".join(
        f"{term} {weight:g}" + ("" if term in settings.weights or not settings.weights else " (default)")
        for term, weight in reading.named.items()
    )
    constant = "" if reading.stage_steps else ", constant"
    layers = ", ".join(f"layer {layer} × {weight:g}" for layer, weight in settings.layer_weights.items())
    return (
        f"Weighted parts are reconstructed from {reading.name}: {named}{constant}{f'; {layers}' * bool(layers)}. "
        f"Their sum is the logged total (95 % of the steps within {deviation:.2%})."
    )


def _unweighted(tried: Sequence[tuple[float, str]]) -> str:
    """Why no weighted parts are shown."""
    if not tried:
        return "Losses are shown unweighted: neither the config nor the published trainers give weights for them."
    deviation, name = min(tried)
    off = "cannot be compared with it" if math.isinf(deviation) else f"are {deviation:.0%} off"
    return (
        f"Losses are shown unweighted: no known weights add up to the logged total ({name} come closest and {off} at one "
        "step in twenty or more), so the log leaves out a loss or the weights were others."
    )

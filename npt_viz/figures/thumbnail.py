"""Thumbnails: a profile or a curve as an SVG of a few hundred bytes, without text, readable on light and dark."""

from collections.abc import Sequence

import numpy as np

from npt_viz.figures.theme import ABOVE, BELOW, CLIPPED_QUANTILE, REFERENCE

WIDTH, HEIGHT = 96, 30
"""Units of the drawing; a page may scale it."""

MOST_BARS = 48


def profile(values: np.ndarray, reference: float | None = 0.0) -> str:
    """Bars of (token,) values above and below their reference; of a longer row the value furthest from it stands for its
    neighbours. NaN leaves a gap."""
    origin = 0.0 if reference is None else reference
    distances = _grouped(np.asarray(values, float) - origin)
    finite = np.abs(distances[np.isfinite(distances)])
    if not finite.size:
        return _svg("")
    span = float(np.quantile(finite, CLIPPED_QUANTILE)) or float(finite.max()) or 1.0
    below, above = bool((distances < 0).any()), bool((distances > 0).any())
    middle = HEIGHT / 2 if above and below else 0.0 if below else float(HEIGHT)
    room = HEIGHT / 2 if above and below else float(HEIGHT)
    step = WIDTH / len(distances)
    bars = {ABOVE: "", BELOW: ""}
    for i, distance in enumerate(distances):
        if np.isfinite(distance) and distance:
            length = min(abs(distance) / span, 1.0) * room
            top = middle - length if distance > 0 else middle
            bars[ABOVE if distance > 0 else BELOW] += (
                f"M{i * step:.1f} {top:.1f}h{max(step - 0.6, 0.6):.1f}v{length:.1f}h-{max(step - 0.6, 0.6):.1f}z"
            )
    drawn = "".join(f'<path fill="{colour}" d="{path}"/>' for colour, path in bars.items() if path)
    return _svg(f'<path stroke="{REFERENCE}" stroke-width=".6" d="M0 {middle:.1f}H{WIDTH}"/>{drawn}')


def curve(values: Sequence[float] | np.ndarray) -> str:
    """A line through values at even steps; what is not finite is left out."""
    ys = np.asarray(values, float)
    ys = ys[np.isfinite(ys)]
    if len(ys) > MOST_BARS:
        ys = ys[np.linspace(0, len(ys) - 1, MOST_BARS).astype(int)]
    if len(ys) < 2:
        return _svg("")
    low, high = float(ys.min()), float(ys.max())
    points = " ".join(
        f"{WIDTH * i / (len(ys) - 1):.1f},{HEIGHT - 1 - (HEIGHT - 2) * (y - low) / ((high - low) or 1.0):.1f}"
        for i, y in enumerate(ys)
    )
    return _svg(f'<polyline fill="none" stroke="{ABOVE}" stroke-width="1.6" points="{points}"/>')


def _grouped(values: np.ndarray) -> np.ndarray:
    """At most MOST_BARS values: of each stretch the one that is furthest from 0."""
    parts = np.array_split(values, min(len(values), MOST_BARS) or 1)
    return np.array([_furthest(part) for part in parts])


def _furthest(part: np.ndarray) -> float:
    finite = part[np.isfinite(part)]
    return float(finite[np.argmax(np.abs(finite))]) if finite.size else np.nan


def _svg(inside: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inside}</svg>'

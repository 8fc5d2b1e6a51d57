"""Colours and style of all figures: one meaning a colour, in light and in dark.

No colour is the reference (nothing happens, or perfect); orange is above it, blue below it; teal is a plain
magnitude. Scales start at the page's own background, so that what matters stands out in both themes, and go from
light to dark or from dark to light in one direction, so that they survive colour blindness and a grey print.
"""

import html
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from npt_viz.results.inspection import Metric
from npt_viz.results.words import number as number

Theme = Literal["light", "dark"]

ROLES = {
    "base": "#3b86c6",
    "npt": "#e0702c",
    "edited": "#c2416b",
    "no modulation": "#8b9099",
    "exact": "#1f9e78",
    "rank floor": "#b8961e",
    "random": "#b565a7",
}
"""Who a line, bar or point belongs to. Mid tones: readable on white and on black."""

INK = {"light": "#23262d", "dark": "#e3e5ea"}
"""Text, and what must be seen first: the pin."""

PAPER = {"light": "#ffffff", "dark": "#14161b"}
"""What a figure lies on; .streamlit/config.toml has the same for the app."""

ABOVE, BELOW = "#cd6c26", "#3b7fba"
"""A bar on either side of its reference, where its length alone is the number."""

FAINT = "rgba(128,132,142,0.28)"
"""Axes, and what is left out."""

REFERENCE = "#868b95"
"""The line that a figure is held against."""

# Sampled with even steps of lightness; the first colour is close to the page's background.
_MAGNITUDE = {
    "light": (
        "#f0f7f4",
        "#cdebe0",
        "#a0dcc9",
        "#6fc7b6",
        "#45aea9",
        "#328f9c",
        "#2d708b",
        "#2d5077",
        "#2c315a",
    ),
    "dark": (
        "#1d2129",
        "#232f45",
        "#284462",
        "#2a5c7a",
        "#2c7789",
        "#379294",
        "#56ae9b",
        "#8ac9a5",
        "#cfe6bd",
    ),
}
_BELOW = {
    "light": ("#f4f4f3", "#d8e5f1", "#b5d2ea", "#8bb9df", "#5f9dd0", "#3b7fba", "#24619c", "#174577"),
    "dark": ("#22252c", "#24344a", "#264768", "#2b5f8d", "#3a7ab0", "#5797ce", "#83b6e6", "#b8d8f8"),
}
_ABOVE = {
    "light": ("#f4f4f3", "#f8e3d0", "#f6cba5", "#efac76", "#e38b49", "#cd6c26", "#a95012", "#7f380a"),
    "dark": ("#22252c", "#3f3026", "#5f3f26", "#86532a", "#ae6a31", "#d28645", "#eeaa6e", "#fbd3ab"),
}

CLIPPED_QUANTILE = 0.98
"""A scale ends at this quantile of the distances from the reference; one outlier must not bleach all other tokens."""


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """How the numbers of one metric become colours."""

    metric: Metric
    low: float
    high: float
    stops: tuple[str, ...]
    """Evenly spaced from low to high."""
    theme: Theme = "light"

    def colours(self, values: np.ndarray) -> list[str | None]:
        """'#rrggbb' for each value; None where the value is not finite. Values beyond the ends take the end's colour."""
        values = np.asarray(values, float)
        positions = np.clip((values - self.low) / ((self.high - self.low) or 1.0), 0, 1)
        rgb = np.array([_rgb(stop) for stop in self.stops])
        grid = np.linspace(0, 1, len(self.stops))
        mixed = np.stack([np.interp(positions, grid, channel) for channel in rgb.T], -1)
        return [
            "#{:02x}{:02x}{:02x}".format(*np.rint(colour).astype(int)) if is_number else None
            for colour, is_number in zip(mixed, np.isfinite(values), strict=True)
        ]

    @property
    def colorscale(self) -> list[tuple[float, str]]:
        """Colour stops, as plotly takes them."""
        return list(zip(np.linspace(0, 1, len(self.stops)).tolist(), self.stops, strict=True))


def colour_scale(metric: Metric, values: np.ndarray, theme: Theme = "light") -> ColourScale:
    """The scale of one metric over all the values that a page shows in colour; NaN is left out.

    Where the reference is an end of the range (a norm, an error) the scale is one-sided; where values can lie on
    either side it is centred on the reference, and a side on which no value lies is cut off.
    """
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if metric.reference is None:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        return ColourScale(metric=metric, low=low, high=high, stops=_MAGNITUDE[theme], theme=theme)
    distances = finite - metric.reference
    span = float(np.quantile(np.abs(distances), CLIPPED_QUANTILE)) if finite.size else 1.0
    span = span or 1.0
    if not metric.signed and metric.reference == 0:
        return ColourScale(metric=metric, low=0.0, high=span, stops=_MAGNITUDE[theme], theme=theme)
    below, above = bool((distances < 0).any()), bool((distances > 0).any())
    if not below and not above:
        below = above = True
    return ColourScale(
        metric=metric,
        low=metric.reference - span * below,
        high=metric.reference + span * above,
        stops=_BELOW[theme][::-1] * below + _ABOVE[theme][below:] * above,
        theme=theme,
    )


def ink_on(colour: str | None, theme: Theme) -> str:
    """The text colour that can be read on this colour."""
    if colour is None:
        return INK[theme]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(_rgb(colour)) / 255
    ]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    # Where black and white have the same contrast ratio: (L + .05)² = .05 · 1.05.
    return "#000000" if luminance > 0.179 else "#ffffff"


def plain(text: str) -> str:
    """Token text inside a figure, exactly: plotly reads <b>, <a href> and entities in labels and tooltips."""
    return html.escape(text, quote=False)


def shortened(text: str, length: int = 14) -> str:
    """A label that fits an axis; the whole token stands in the strip and in the tooltip."""
    return text if len(text) <= length else text[: length - 1] + "…"


def styled(figure: go.Figure, *, height: int, theme: Theme = "light") -> go.Figure:
    """Common style of all figures: no background, quiet axes, room for labels."""
    figure.update_layout(
        height=height,
        margin=dict(l=8, r=8, t=24, b=8),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=dict(color=INK[theme], size=12),
        hoverlabel=dict(font=dict(family="monospace", size=12), align="left"),
        legend=dict(orientation="h", yanchor="bottom", y=1.0, x=0, title=None),
        modebar=dict(remove=["select2d", "lasso2d", "autoScale2d", "toImage"]),
        dragmode=False,
    )
    figure.update_xaxes(showgrid=False, zeroline=False, automargin=True)
    figure.update_yaxes(showgrid=False, zeroline=False, automargin=True)
    return figure


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def log_y(figure: go.Figure) -> None:
    """Make the y axis logarithmic, with few ticks that are numbers in full: 1, 2, 5 of a decade, or decades alone."""
    drawn = np.concatenate([np.asarray(trace.y, float) for trace in figure.data])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    low, high = drawn.min(initial=np.inf), drawn.max(initial=0.0)
    decades = (
        np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1) if len(drawn) else np.arange(2.0)
    )
    steps = (1.0, 2.0, 5.0) if len(decades) <= 3 else (1.0,)
    ticks = [step * 10.0**decade for decade in decades[:: -(-len(decades) // MOST_DECADES)] for step in steps]
    inside = [tick for tick in ticks if low / 1.05 <= tick <= 1.05 * high]
    if len(inside) < 2 and len(drawn):
        inside = [*{low, high}]
    figure.update_yaxes(type="log", tickvals=inside, ticktext=[number(tick) for tick in inside])


MOST_DECADES = 5
"""Decades of a logarithmic axis that have a tick."""

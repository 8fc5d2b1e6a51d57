"""Two inspections in pictures: a number in B against the same in A."""

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.theme import INK, REFERENCE, ROLES, Theme, number, plain, shortened, styled
from npt_viz.results.comparison import COMPARED, Comparison

BAND = "rgba(128,132,142,0.13)"
"""Fainter than what is left out: most points lie on it."""

LABELLED = 4
"""Tokens that are named: the largest differences that stand out."""


def b_against_a(
    found: Comparison,
    metric: str,
    *,
    with_sinks: bool = False,
    pin: int | None = None,
    height: int = 290,
    theme: Theme = "light",
) -> go.Figure:
    """One point a token of both prompts, on equal axes; on the diagonal nothing changes.

    Tokens that stand out are filled and the largest of them named; the band is the spread around the median difference.
    pin: column of the pinned token. customdata is (column, A, B).
    """
    columns, counts = found.columns(metric), found.counts(with_sinks=with_sinks)
    drawn = np.flatnonzero(counts & np.isfinite(columns.difference))
    spread = found.spread(metric, with_sinks=with_sinks)
    out = spread.stand_out(columns.difference)[drawn]
    a, b, label = columns.a[drawn], columns.b[drawn], plain(COMPARED[metric].label)
    low, high = _range(np.concatenate([a, b]))
    figure = go.Figure()
    if np.isfinite(spread.size):
        _band(figure, low, high, spread.middle, spread.size)
    figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=dict(color=REFERENCE, width=1))
    tokens = found.tokens
    figure.add_scatter(
        x=a,
        y=b,
        mode="markers",
        marker=dict(
            size=np.where(out, 8, 6),
            color=np.where(out, ROLES["npt"], REFERENCE),
            opacity=np.where(out, 1.0, 0.75),
        ),
        customdata=np.stack([drawn, a, b], -1),
        text=[
            f"<b>{plain(tokens[i].glyph)}</b>  {_where(found, i)}<br>A {number(columns.a[i])}<br>B {number(columns.b[i])}"
            f"<br>B − A {number(columns.difference[i])}"
            for i in map(int, drawn)
        ],
        hovertemplate="%{text}<extra></extra>",
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=0.75)),
        showlegend=False,
    )
    if pin is not None and pin in drawn:
        figure.add_scatter(
            x=[columns.a[pin]],
            y=[columns.b[pin]],
            mode="markers",
            marker=dict(size=14, symbol="circle-open", color=INK[theme], line=dict(width=2)),
            hoverinfo="skip",
            showlegend=False,
        )
    _names(figure, found, metric, with_sinks, low, high)
    styled(figure, height=height, theme=theme)
    figure.update_xaxes(
        range=[low, high], title=dict(text=f"{label}, A", font_size=11, standoff=4), nticks=6, automargin=True
    )
    figure.update_yaxes(range=[low, high], title=dict(text="B", font_size=11, standoff=4), nticks=6)
    figure.update_layout(margin=dict(t=6, b=4, l=4, r=10), hovermode="closest", clickmode="event+select")
    return figure


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of both axes, with room around the points."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _band(figure: go.Figure, low: float, high: float, middle: float, size: float) -> None:
    """Where a difference lies no further than the spread from the median difference."""
    figure.add_scatter(
        x=[low, high, high, low],
        y=[low + middle - size, high + middle - size, high + middle + size, low + middle + size],
        fill="toself",
        fillcolor=BAND,
        line=dict(width=0),
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _names(
    figure: go.Figure, found: Comparison, metric: str, with_sinks: bool, low: float, high: float
) -> None:
    """Names beside the largest differences; one that would lie on another is left out."""
    placed: list[tuple[float, float]] = []
    for each in found.largest(metric, LABELLED, with_sinks=with_sinks):
        x, y = ((value - low) / (high - low) for value in (each.a, each.b))
        if not each.stands_out or any(abs(x - u) < 0.25 and abs(y - v) < 0.09 for u, v in placed):
            continue
        placed.append((x, y))
        to_left = x > 0.6
        figure.add_annotation(
            x=each.a,
            y=each.b,
            text=plain(shortened(each.token.glyph)),
            showarrow=False,
            xanchor="right" if to_left else "left",
            xshift=-8 if to_left else 8,
            font=dict(family="monospace", size=11),
        )


def _where(found: Comparison, column: int) -> str:
    a, b = found.pairs[column]
    return f"#{a}" if a == b else f"#{a} in A, #{b} in B"

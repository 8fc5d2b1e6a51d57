"""Directions of the modulation: map of the tokens' vectors, number of directions, agreement with the exact patch."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import window
from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import (
    FAINT,
    INK,
    REFERENCE,
    ROLES,
    ColourScale,
    Theme,
    colour_scale,
    number,
    plain,
    shortened,
    styled,
)
from npt_viz.results.directions import (
    Alignment,
    DirectionMap,
    ExactAgreement,
)
from npt_viz.results.inspection import Metric

ALIGNMENT = Metric(
    "cos(ΔW, ΔW')", "", "how alike the weight changes of two tokens are; 0 is unrelated", 0.0, True
)
AGREEMENT = Metric(
    "cos(s·v_b, exact)",
    "",
    "whether the change points where the exact patch would; 0 is unrelated",
    0.0,
    True,
)
ALIGNED = 96
"""Tokens of an alignment matrix that are drawn: its cells are their square."""

_NAMED = 40
"""Tokens of a map up to which each has its text beside it, where there is room."""

_MAP_PIXELS = np.array([330.0, 300.0])
"""Room for the points of a map on a small screen."""

_CHARACTER, _LINE = 6.4, 13.0
"""Pixels of a label's character, with its gap, and of its height."""


def direction_map(
    result: DirectionMap,
    *,
    tokens: Sequence[str],
    values: np.ndarray,
    scale: ColourScale,
    pin: int | None = None,
) -> go.Figure:
    """One point a token on the first two principal axes; a click's customdata is (token, value).

    values: (token,) of the whole prompt, what the points are coloured by. The ellipse is where vectors with these
    norms and random directions lie: twice their standard deviation.
    """
    x, y = result.coordinates.T
    shown = np.asarray(values, float)[result.tokens]
    pinned = result.tokens == pin
    named = len(x) <= _NAMED
    figure = go.Figure(_ellipse(2 * result.random_sds))
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers+text" if named else "markers",
        text=apart(
            result.coordinates
            if not result.far.any()
            else result.coordinates.clip(-result.radius, result.radius),
            [plain(shortened(tokens[i], 10)) for i in map(int, result.tokens)],
            first=pinned,
        )
        if named
        else None,
        textposition="top center",
        textfont=dict(family="monospace", size=10),
        hovertext=[
            f"<b>{plain(tokens[i])}</b>  #{i}<br>{plain(scale.metric.label)} {number(value)}"
            f"<br>‖{result.quantity}‖ {number(norm)}"
            for i, value, norm in zip(map(int, result.tokens), shown, result.norms, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=np.stack([result.tokens, shown], -1),
        marker=dict(
            color=[colour or FAINT for colour in scale.colours(shown)],
            size=np.where(pinned, 16, 10),
            line=dict(
                color=np.where(pinned, INK[scale.theme], "rgba(128,132,142,0.8)"),
                width=np.where(pinned, 3, 1),
            ),
        ),
        showlegend=False,
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
    )
    styled(figure, height=440, theme=scale.theme)
    for axis, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
        share = result.explained[axis] if axis < len(result.explained) else 0.0
        update(
            title=dict(text=f"axis {axis + 1} · {share:.0%} of the variance", font_size=11),
            zeroline=True,
            zerolinecolor=FAINT,
        )
        if result.far.any():
            # A single token far out would press all others into one point; a double click shows it.
            update(range=[-result.radius, result.radius])
    # One unit is as long upwards as to the right: distances on the map are distances between vectors.
    figure.update_yaxes(scaleanchor="x")
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return figure


def apart(points: np.ndarray, labels: Sequence[str], *, first: np.ndarray) -> list[str]:
    """Labels of which none covers another: of two that would, one is empty, and the pointer shows it.

    points: (point, 2), drawn with one unit for both axes. first: (point,) which labels go before the others.
    Points far from the middle have theirs before those in a heap.
    """
    if not len(points):
        return []
    extent = np.ptp(points, axis=0).clip(1e-12)
    unit = min(_MAP_PIXELS / extent)  # pixels; at least, on a small screen
    shown, kept = [], [""] * len(labels)
    for i in sorted(range(len(labels)), key=lambda i: (not first[i], -np.linalg.norm(points[i]))):
        half = np.array([_CHARACTER * len(labels[i]), _LINE]) / 2
        middle = points[i] * unit
        if all((np.abs(middle - other) >= half + other_half).any() for other, other_half in shown):
            shown.append((middle, half))
            kept[i] = labels[i]
    return kept


def spreads(result: DirectionMap, theme: Theme = "light") -> go.Figure:
    """Effective rank and participation ratio of the vectors, above those that they are held against."""
    names = [f"{result.quantity} of this adapter", *(reference.name for reference in result.references)]
    rows = list(range(len(names)))[::-1]
    figure = go.Figure()
    for label, symbol, measured, baselines in (
        (
            "effective rank",
            "circle",
            result.spread.effective_rank,
            [reference.effective_rank for reference in result.references],
        ),
        (
            "participation ratio",
            "circle-open",
            result.spread.participation_ratio,
            [reference.participation_ratio for reference in result.references],
        ),
    ):
        figure.add_scatter(
            x=[measured, *(baseline.mean for baseline in baselines)],
            y=rows,
            mode="markers",
            name=label,
            error_x=dict(array=[0, *(baseline.sd for baseline in baselines)], color=REFERENCE, thickness=1),
            marker=dict(
                symbol=symbol, size=10, color=[ROLES["npt"], *([ROLES["random"]] * (len(names) - 1))]
            ),
            hovertext=[
                f"{label} {number(measured)}",
                *(
                    f"{label} {number(b.mean)}" + (f" ± {number(b.sd)}, {b.n} draws" if b.n else "")
                    for b in baselines
                ),
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.add_vline(result.spread.effective_rank, line=dict(color=REFERENCE, width=1, dash="dot"))
    styled(figure, height=44 * len(names) + 76, theme=theme)
    figure.update_yaxes(
        tickvals=rows,
        ticktext=["<br>".join(wrap(name, 31, break_long_words=False)) for name in names],
        tickfont_size=11,
        range=[-0.6, len(names) - 0.4],
    )
    figure.update_xaxes(
        title=dict(text=f"directions in use, of at most {result.ceiling}", font_size=11), rangemode="tozero"
    )
    return figure


def alignment_map(result: Alignment, *, tokens: Sequence[str], pin: int, theme: Theme = "light") -> go.Figure:
    """Token × token cosine of ΔW, a block of ALIGNED tokens around the pin; a click's customdata is (column, row, value)."""
    column = int(np.abs(result.tokens - pin).argmin())
    block = window(len(result.tokens), column, ALIGNED)
    shown, cosines = result.tokens[block], result.cosines[np.ix_(block, block)]
    # Always from −1 to 1: a colour means the same for every adapter.
    scale = colour_scale(ALIGNMENT, np.array([-1.0, 1.0]), theme)
    cells = np.arange(len(shown))
    figure = go.Figure(
        go.Heatmap(
            z=cosines,
            x=cells,
            y=cells,
            colorscale=scale.colorscale,
            zmin=-1,
            zmax=1,
            hoverinfo="skip",
            colorbar=dict(thickness=8, outlinewidth=0, tickvals=[-1, 0, 1], tickfont_size=11),
        )
    )
    rows, columns = (grid.ravel() for grid in np.mgrid[0 : len(shown), 0 : len(shown)])
    labels = [f"{plain(shortened(tokens[i]))} #{i}" for i in map(int, shown)]
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        customdata=np.stack([shown[columns], shown[rows], cosines.ravel()], -1),
        text=[
            f"{labels[c]}<br>{labels[r]}<br>{number(v)}"
            for c, r, v in zip(columns, rows, cosines.ravel(), strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        marker=dict(size=1, opacity=0),
        selected=dict(marker=dict(opacity=0)),
        unselected=dict(marker=dict(opacity=0)),
        showlegend=False,
    )
    styled(figure, height=420, theme=theme)
    ticks: dict[str, Any] = dict(
        tickvals=cells, ticktext=[plain(shortened(tokens[i], 8)) for i in map(int, shown)]
    )
    if len(shown) > _NAMED:
        ticks = dict(tickvals=cells[::8], ticktext=[str(i) for i in shown[::8]])
    figure.update_xaxes(**ticks, tickfont=dict(family="monospace", size=10), tickangle=-45)
    figure.update_yaxes(
        **ticks, tickfont=dict(family="monospace", size=10), autorange="reversed", scaleanchor="x"
    )
    figure.update_layout(hoverdistance=-1, hovermode="closest", clickmode="event+select")
    return figure


def agreement(
    result: ExactAgreement,
    *,
    tokens: Sequence[str],
    left_out: np.ndarray,
    pin: int,
    shown: range,
    theme: Theme = "light",
) -> go.Figure:
    """cos(s·v_b, exact change) along the tokens, with the shuffled baseline and the band of random directions."""
    values = np.full(len(tokens), np.nan)
    values[result.tokens] = result.cosines
    scale = colour_scale(AGREEMENT, np.array([-1.0, 1.0]), theme)
    figure = token_profile(values, tokens=tokens, scale=scale, left_out=left_out, pin=pin, shown=shown)
    low, high = np.nanmin([*values, 0]), np.nanmax([*values, result.shuffled.mean, 0])
    margin = 0.08 * ((high - low) or 1)
    figure.update_yaxes(range=[low - margin, high + margin])
    # The label of the median stands there, too.
    apart = result.shuffled.mean - float(np.nanmedian(values))
    shift = 0 if abs(apart) > margin else 12 if apart > 0 else -12
    figure.add_hrect(
        -2 * result.random_sd, 2 * result.random_sd, fillcolor=ROLES["random"], opacity=0.25, line_width=0
    )
    figure.add_hline(
        result.shuffled.mean,
        line=dict(color=ROLES["random"], width=1.5, dash="dash"),
        annotation=dict(
            text="shuffled",
            font_size=11,
            xanchor="left",
            x=1,
            yanchor="middle",
            showarrow=False,
            yshift=shift,
        ),
    )
    return figure.update_layout(height=300)


def _ellipse(radii: np.ndarray) -> go.Scatter:
    angle = np.linspace(0, 2 * np.pi, 61)
    return go.Scatter(
        x=radii[0] * np.cos(angle),
        y=radii[1] * np.sin(angle),
        mode="lines",
        line=dict(color=ROLES["random"], width=1.5, dash="dash"),
        name="random directions of these norms, 2 sd",
        hoverinfo="skip",
    )

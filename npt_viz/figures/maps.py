"""Maps: one colour for each layer and token, every cell clickable."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.theme import (
    FAINT,
    INK,
    ColourScale,
    Theme,
    colour_scale,
    number,
    plain,
    shortened,
    styled,
)
from npt_viz.results.inspection import METRICS, Inspection

WINDOW = 256
"""Tokens drawn at a time; more cells than pixels show nothing, and each cell is an object in the browser."""

_LABELLED, _FEW = 64, 9
_LEFT, _RIGHT = 76, 96


def window(n_tokens: int, around: int, size: int = WINDOW) -> range:
    """The block of `size` tokens that holds one token; blocks do not move while the pin stays inside."""
    start = around // size * size
    return range(start, min(start + size, n_tokens))


def layer_by_token(
    values: np.ndarray,
    *,
    layers: Sequence[int],
    tokens: Sequence[str],
    scale: ColourScale,
    left_out: np.ndarray | None = None,
    pin: tuple[int, int] | None = None,
    shown: range | None = None,
    names: Sequence[str] | None = None,
) -> go.Figure:
    """Layers upwards, tokens to the right.

    values: (layer, token), all of them; `shown` picks the tokens that are drawn (`window`).
    names: what the rows are called, "layer 15" by default.
    left_out: (token,) bool, drawn without a colour and marked. pin: (layer, token), outlined.
    A heatmap's cells cannot be clicked, so an invisible point lies on each: its customdata is (layer, token, value).
    """
    shown = shown or range(values.shape[1])
    names = names or [f"layer {layer}" for layer in layers]
    columns = np.arange(shown.start, shown.stop)
    part = np.asarray(values, float)[:, columns]
    hidden = np.zeros(len(columns), bool) if left_out is None else np.asarray(left_out)[columns]
    figure = go.Figure(
        go.Heatmap(
            z=np.where(hidden, np.nan, part),
            x=columns,
            y=np.arange(len(layers)),
            colorscale=scale.colorscale,
            zmin=scale.low,
            zmax=scale.high,
            hoverinfo="skip",
            # A gap between cells, where a cell is wider than a few pixels.
            xgap=1 if len(columns) <= _LABELLED else 0,
            ygap=1,
            colorbar=_colourbar(scale),
        )
    )
    figure.add_trace(_clickable_cells(part, layers, names, tokens, columns, hidden, scale))
    for column in columns[hidden]:
        figure.add_vrect(column - 0.5, column + 0.5, fillcolor=FAINT, line_width=0, layer="below")
    if pin and pin[0] in layers and pin[1] in shown:
        _outline(figure, pin[1], list(layers).index(pin[0]), scale)
    row = 30 if len(layers) <= 8 else 20 if len(layers) <= 16 else 14
    styled(figure, height=len(layers) * row + 90, theme=scale.theme)
    token_axis(figure, tokens, columns)
    figure.update_yaxes(
        range=[-0.5, len(layers) - 0.5],
        tickvals=list(range(len(layers))),
        ticktext=names,
        fixedrange=True,
    )
    figure.update_layout(margin_t=4)
    # The nearest cell, however far: otherwise a click beside the invisible point finds nothing.
    figure.update_layout(hoverdistance=-1, hovermode="closest", clickmode="event+select")
    return figure


def metric_map(
    run: Inspection,
    metric: str,
    *,
    left_out: np.ndarray,
    pin: tuple[int, int],
    shown: range,
    theme: Theme = "light",
) -> go.Figure:
    """One column of METRICS for every layer and token of an inspection, on one scale; see `layer_by_token`."""
    layers = sorted(run.layers)
    values = np.stack([run.layers[layer].values(metric) for layer in layers])
    scale = colour_scale(METRICS[metric], values[:, ~left_out], theme)
    return layer_by_token(
        values, layers=layers, tokens=run.tokens, scale=scale, left_out=left_out, pin=pin, shown=shown
    )


def token_axis(
    figure: go.Figure, tokens: Sequence[str], columns: np.ndarray, *, labelled: bool = True
) -> None:
    """Tokens to the right. Equal tokens would share one column if they were categories, so they are ticks.

    The margins are the same for every figure with this axis, so that figures below each other line up.
    """
    figure.update_xaxes(range=[columns[0] - 0.5, columns[-1] + 0.5], ticks="", showspikes=False)
    figure.update_yaxes(automargin=False)
    figure.update_layout(margin=dict(l=_LEFT, r=_RIGHT))
    if not labelled:
        figure.update_xaxes(showticklabels=False)
    elif len(columns) <= _LABELLED:
        figure.update_xaxes(
            tickvals=columns.tolist(),
            ticktext=[plain(shortened(tokens[i])) for i in map(int, columns)],
            tickfont=dict(family="monospace", size=11),
            tickangle=-45 if len(columns) > 8 else 0,
        )
    else:
        figure.update_xaxes(title=dict(text="token", standoff=4), nticks=12, tickformat="d")
    if len(columns) <= _FEW:
        # Few tokens: cells keep a human size instead of growing into slabs.
        figure.update_layout(width=len(columns) * 84 + _LEFT + _RIGHT)


def _colourbar(scale: ColourScale) -> dict:
    ticks = [scale.low, scale.high]
    reference = scale.metric.reference
    if reference is not None and scale.low < reference < scale.high:
        ticks.insert(1, reference)
    return dict(
        thickness=8,
        len=1.0,
        outlinewidth=0,
        tickvals=ticks,
        ticktext=[number(tick) for tick in ticks],
        tickfont=dict(size=11),
        xpad=6,
    )


def _clickable_cells(part, layers, names, tokens, columns, hidden, scale: ColourScale) -> go.Scatter:
    rows, cols = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    rows, cols = rows.ravel(), cols.ravel()
    labels = [
        f"<b>{plain(tokens[columns[c]])}</b>  #{columns[c]}<br>{names[r]}"
        f"<br>{plain(scale.metric.label)} {number(part[r, c])}"
        + ("<br>sink, not coloured" if hidden[c] else "")
        for r, c in zip(rows, cols, strict=True)
    ]
    return go.Scatter(
        x=columns[cols],
        y=rows,
        mode="markers",
        text=labels,
        hovertemplate="%{text}<extra></extra>",
        customdata=np.stack([np.asarray(layers)[rows], columns[cols], part.ravel()], -1),
        marker=dict(size=1, opacity=0),
        selected=dict(marker=dict(opacity=0)),
        unselected=dict(marker=dict(opacity=0)),
        showlegend=False,
    )


def _outline(figure: go.Figure, x: float, y: float, scale: ColourScale) -> None:
    figure.add_shape(
        type="rect",
        x0=x - 0.5,
        x1=x + 0.5,
        y0=y - 0.5,
        y1=y + 0.5,
        line=dict(color=INK[scale.theme], width=2),
        fillcolor="rgba(0,0,0,0)",
    )

"""Two inspections in pictures: B − A by layer and token, and a number in B against the same in A."""

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import layer_by_token, window
from npt_viz.figures.theme import (
    INK,
    REFERENCE,
    ROLES,
    ColourScale,
    Theme,
    colour_scale,
    plain,
    shortened,
    styled,
)
from npt_viz.results.comparison import COMPARED, Columns, Comparison
from npt_viz.results.inspection import METRICS, Token

BAND = "rgba(128,132,142,0.13)"
"""Fainter than what is left out: most points lie on it."""

MARKED = 256
"""Points up to which the pinned one is marked: with more, a pin would send all of them anew."""

CLIPPED_QUANTILE, FEW = 0.005, 50
"""Of many points so many lie beyond each end of the axes, where they are drawn at the edge: a few must not squash the rest."""

LABELLED = 4
"""Tokens that are named: the largest differences that stand out."""


MARKS = {"deleted": "−", "inserted": "+"}
"""Before a token that only A has, and one that only B has."""


def marked(found: Comparison) -> list[Token]:
    """Tokens of the alignment, with a mark before those that one side has not."""
    return [
        token if pair.kind == "same" else token._replace(glyph=MARKS[pair.kind] + token.glyph, kind=pair.kind)
        for token, pair in zip(found.tokens, found.pairs, strict=True)
    ]


def row_names(found: Comparison, metric: str) -> list[str]:
    """What the rows of the differences are called."""
    if metric not in METRICS:
        return ["NPT model"]
    return [f"layer {b}" if a == b else f"layer {a} → {b}" for a, b in found.rows]


def difference_scale(
    found: Comparison, metric: str, *, with_sinks: bool = False, theme: Theme = "light"
) -> ColourScale:
    """Colours of B − A over all rows, so that another layer does not change what a colour means."""
    shown = COMPARED[metric]
    signed = shown._replace(label=f"B − A of {shown.label}", reference=0.0, signed=True)
    return colour_scale(signed, found.differences(metric)[:, found.counts(with_sinks=with_sinks)], theme)


def common_scale(
    found: Comparison, metric: str, *, with_sinks: bool = False, theme: Theme = "light"
) -> ColourScale:
    """Colours of A and of B, the same for both."""
    columns, counts = found.columns(metric), found.counts(with_sinks=with_sinks)
    return colour_scale(COMPARED[metric], np.concatenate([each[counts] for each in columns]), theme)


def differences(
    found: Comparison,
    metric: str,
    *,
    with_sinks: bool = False,
    pin: int | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """B − A, layers upwards, tokens of the alignment to the right; tokens of one side alone have no colour."""
    values = found.differences(metric)
    layers = [b for _, b in found.rows] if len(values) == len(found.rows) else [found.layers[1]]
    return layer_by_token(
        values,
        layers=layers,
        tokens=[token.glyph for token in marked(found)],
        scale=difference_scale(found, metric, with_sinks=with_sinks, theme=theme),
        left_out=found.is_sink & ~found.counts(with_sinks=with_sinks),
        pin=None if pin is None else (found.layers[1], pin),
        shown=window(len(found.pairs), pin or 0),
        names=row_names(found, metric),
    )


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
    pin: column of the pinned token. customdata is (column, A, B, B − A).
    """
    columns, counts = found.columns(metric), found.counts(with_sinks=with_sinks)
    drawn = np.flatnonzero(counts & np.isfinite(columns.difference))
    spread = found.spread(metric, with_sinks=with_sinks)
    out = spread.stand_out(columns.difference)[drawn]
    label = plain(COMPARED[metric].label)
    low, high = _range(np.concatenate([columns.a[drawn], columns.b[drawn]]))
    x, y = np.clip(columns.a, low, high), np.clip(columns.b, low, high)
    figure = go.Figure()
    if np.isfinite(spread.size):
        _band(figure, low, high, spread.middle, spread.size)
    figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=dict(color=REFERENCE, width=1))
    # A colour for each point would be checked one by one, which takes longer than all the rest.
    for part, colour, size, opacity in (
        (drawn[~out], REFERENCE, 6, 0.75),
        (drawn[out], ROLES["npt"], 8, 1.0),
    ):
        _points(figure, found, columns, part, x, y, dict(color=colour, size=size), opacity)
    if pin is not None and pin in drawn and len(drawn) <= MARKED:
        figure.add_scatter(
            x=[x[pin]],
            y=[y[pin]],
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


def _points(
    figure: go.Figure,
    found: Comparison,
    columns: Columns,
    part: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    marker: dict,
    opacity: float,
) -> None:
    """Points of some columns of the alignment."""
    tokens, shown = found.tokens, (columns.a, columns.b, columns.difference)
    figure.add_scatter(
        x=x[part],
        y=y[part],
        mode="markers",
        marker=marker | dict(opacity=opacity),
        customdata=np.stack([part, *(_digits(each[part]) for each in shown)], -1),
        text=[f"<b>{plain(tokens[i].glyph)}</b>  {_where(found, i)}" for i in map(int, part)],
        hovertemplate="%{text}<br>A %{customdata[1]}<br>B %{customdata[2]}<br>B − A %{customdata[3]}<extra></extra>",
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=opacity)),
        showlegend=False,
    )


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of both axes, with room around the points; of many, a few far ones left aside."""
    if not values.size:
        return 0.0, 1.0
    far = CLIPPED_QUANTILE if values.size > 2 * FEW else 0.0
    low, high = map(float, np.quantile(values, [far, 1 - far]))
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _digits(values: np.ndarray) -> np.ndarray:
    """What a tooltip shows: four significant digits, as short text is short to send."""
    return np.array([float(f"{value:.4g}") for value in values])


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
        x, y = (float(np.clip((value - low) / (high - low), 0, 1)) for value in (each.a, each.b))
        if not each.stands_out or any(abs(x - u) < 0.25 and abs(y - v) < 0.09 for u, v in placed):
            continue
        placed.append((x, y))
        to_left = x > 0.6
        figure.add_annotation(
            x=low + x * (high - low),
            y=low + y * (high - low),
            text=plain(shortened(each.token.glyph)),
            showarrow=False,
            xanchor="right" if to_left else "left",
            xshift=-8 if to_left else 8,
            font=dict(family="monospace", size=11),
        )


def _where(found: Comparison, column: int) -> str:
    a, b = found.pairs[column]
    return f"#{a}" if a == b else f"#{a} in A, #{b} in B"

"""Attribution in pictures: what each token contributes, one method below the other on one token axis."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from npt_viz.figures.maps import token_axis
from npt_viz.figures.theme import (
    FAINT,
    INK,
    REFERENCE,
    ColourScale,
    Theme,
    colour_scale,
    number,
    plain,
    styled,
)
from npt_viz.results.attribution import METHODS, SCORE, Attribution


def shown_scores(result: Attribution) -> np.ndarray:
    """(token,) the scores of the tokens that can have one; NaN for the others, which have no colour."""
    scores = np.full(len(result.tokens), np.nan)
    scores[result.asked] = result.scores[result.asked]
    return scores


def score_scale(result: Attribution, theme: Theme = "light") -> ColourScale:
    """Centred on 0: one scale for each method, since only their order can be compared."""
    return colour_scale(SCORE, shown_scores(result), theme)


def scores_by_method(
    results: Sequence[Attribution], *, pin: int, shown: range | None = None, theme: Theme = "light"
) -> go.Figure:
    """Bars from 0, one row a method, all of the same question; the first token and those after the pin have none."""
    shown = shown or range(len(results[0].tokens))
    columns = np.arange(shown.start, shown.stop)
    figure = make_subplots(rows=len(results), cols=1, shared_xaxes=True, vertical_spacing=0.12 / len(results))
    for row, result in enumerate(results, 1):
        figure.add_trace(_bars(result, columns, pin, theme), row=row, col=1)
    # Three rows fit the first screen.
    styled(figure, height=60 + len(results) * {1: 180, 2: 120}.get(len(results), 95), theme=theme)
    token_axis(figure, results[0].tokens, columns)
    if len(results) > 1:
        figure.update_xaxes(showticklabels=False)
        figure.update_xaxes(showticklabels=True, row=len(results), col=1)
    figure.add_hline(0, line=dict(color=REFERENCE, width=1))
    for row, result in enumerate(results, 1):
        title = dict(text=METHODS[result.method].label, font_size=11)
        figure.update_yaxes(title=title, nticks=5, row=row, col=1)
    figure.update_layout(bargap=0.12, hovermode="closest", clickmode="event+select", showlegend=False)
    return figure


def _bars(result: Attribution, columns: np.ndarray, pin: int, theme: Theme) -> go.Bar:
    scores = shown_scores(result)[columns]
    colours = [colour or FAINT for colour in score_scale(result, theme).colours(scores)]
    return go.Bar(
        x=columns,
        y=scores,
        customdata=np.stack([columns, scores], -1),
        text=[
            f"<b>{plain(result.tokens[i])}</b>  #{i}<br>{METHODS[result.method].label} {number(score)}"
            for i, score in zip(columns, scores, strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        marker=dict(
            color=colours,
            line=dict(
                color=[INK[theme] if i == pin else "rgba(128,132,142,0.55)" for i in columns],
                width=[2 if i == pin else 0.5 for i in columns],
            ),
        ),
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
    )

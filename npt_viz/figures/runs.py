"""Curves of several trainings: a colour for each run, a dash for each column, raw values behind smoothed ones."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from npt_viz.figures.theme import FAINT, REFERENCE, Theme, log_y, plain, styled
from npt_viz.figures.training import TERM_COLOURS
from npt_viz.results.runs import Axis, Line, Shares

SERIES = (
    "#3b86c6",
    "#e0702c",
    "#1f9e78",
    "#b565a7",
    "#b8961e",
    "#c2416b",
    "#7b5cc4",
    "#5f9d3a",
    "#8b7d72",
    "#2f9fb0",
)
"""One colour a run, in the order they were added."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""One a column."""

AXES: dict[Axis, str] = {"step": "step", "seconds": "seconds of training", "tokens": "tokens trained on"}

REFERENCES = {"heldout/recovered": {"no modulation": 0.0, "perfect": 1.0}}
"""Column -> label -> a horizontal line."""

_OTHER = ("#a8785a", "#6a8fb5", "#8a9a4b", "#c07f9d")


def overlay(
    lines: Sequence[Line],
    *,
    series: Sequence[str],
    x: Axis = "step",
    log: bool = False,
    marks: Mapping[str, Sequence[tuple[int, str]]] | None = None,
    height: int = 420,
    theme: Theme = "light",
) -> go.Figure:
    """All lines in one picture.

    series: all that may be drawn, so that a run keeps its colour from chart to chart.
    marks: series -> (step, label) of its vertical lines, drawn along steps only.
    """
    columns = list(dict.fromkeys(each.column for each in lines))
    figure = go.Figure()
    for each in lines:
        style = dict(
            color=_colour(series, each.series), dash=DASHES[columns.index(each.column) % len(DASHES)]
        )
        name = each.series if len(columns) == 1 else f"{each.series} · {each.column}"
        _add_line(figure, each, plain(name), style)
    styled(figure, height=height, theme=theme)
    for column in columns:
        for label, value in REFERENCES.get(column, {}).items():
            figure.add_hline(
                value, line=dict(color=REFERENCE, width=1, dash="dot"), annotation=dict(text=label)
            )
    drawn = {each.series for each in lines}
    if x == "step":
        _add_marks(figure, {name: steps for name, steps in (marks or {}).items() if name in drawn}, series)
    # A value of 0 or below has no logarithm: it is left out of the line, and the axis stays linear without any other.
    if log and any((each.y > 0).any() for each in lines):
        log_y(figure)
    figure.update_xaxes(title=dict(text=AXES[x], font_size=11), rangemode="tozero")
    figure.update_yaxes(title=dict(text=plain(columns[0]) if len(columns) == 1 else "", font_size=11))
    figure.update_layout(hovermode="x unified", showlegend=True, legend=dict(font_size=11))
    return figure


def share_areas(
    result: Shares, *, marks: Sequence[tuple[int, str]] = (), theme: Theme = "light"
) -> go.Figure:
    """Each loss's part of the weighted total, stacked to 1."""
    figure = go.Figure()
    for i, (term, share) in enumerate(result.shares.items()):
        figure.add_scatter(
            x=result.steps,
            y=share,
            name=plain(term.replace("_", " ")),
            stackgroup="shares",
            line=dict(width=0.5, color=TERM_COLOURS.get(term, _OTHER[i % len(_OTHER)])),
            hovertemplate="%{y:.1%}",
        )
    styled(figure, height=260, theme=theme)
    _add_marks(figure, {result.series: marks}, [])
    figure.update_yaxes(range=[0, 1], tickformat="~%", title=dict(text="share of the total", font_size=11))
    figure.update_xaxes(title=dict(text="step", font_size=11))
    figure.update_layout(hovermode="x unified", legend=dict(font_size=11), showlegend=True)
    return figure


def _add_line(figure: go.Figure, each: Line, name: str, style: dict) -> None:
    sparse = len(each.x) <= 60
    shown = each.y if each.smooth is None else each.smooth
    if each.smooth is not None:
        figure.add_scatter(
            x=each.x,
            y=each.y,
            mode="lines",
            line=dict(color=style["color"], width=1),
            opacity=0.25,
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=each.x,
        y=shown,
        name=name,
        legendgroup=name,
        mode="lines+markers" if sparse else "lines",
        line=dict(width=1.8, **style),
        marker=dict(size=4 if len(each.x) > 3 else 8),
        hovertemplate="%{y:.4g}",
    )


def _add_marks(
    figure: go.Figure, marks: Mapping[str, Sequence[tuple[int, str]]], series: Sequence[str]
) -> None:
    """Vertical lines in the colour of their run; where all runs share them, in that of a reference."""
    same = len({tuple(steps) for steps in marks.values()}) == 1
    marks = {name: steps for name, steps in marks.items() if steps}
    for row, (name, steps) in enumerate(list(marks.items())[: 1 if same else None]):
        colour = REFERENCE if same or not series else _colour(series, name)
        for step, label in steps:
            figure.add_vline(step, line=dict(color=colour, width=1, dash="dash"), opacity=0.7)
            figure.add_annotation(
                x=step,
                y=0,
                yref="paper",
                yshift=12 * row,
                text=plain(label),
                showarrow=False,
                xanchor="left",
                yanchor="bottom",
                font=dict(size=10, color=colour),
            )


def _colour(series: Sequence[str], name: str) -> str:
    return SERIES[list(series).index(name) % len(SERIES)] if name in series else FAINT

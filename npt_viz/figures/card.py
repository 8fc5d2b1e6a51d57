"""Figures of the pinned token: gate units moved, and next tokens raised and lowered."""

import plotly.graph_objects as go

from npt_viz.figures.theme import ABOVE, BELOW, REFERENCE, ROLES, Theme, number, plain, shortened, styled
from npt_viz.results.directions import DirectionVocabulary
from npt_viz.results.token_card import TokenCard


def gate_units(card: TokenCard, theme: Theme = "light") -> go.Figure:
    """The gate units moved most, from before to after; 0 is the line at which SiLU opens."""
    units = card.units[::-1]
    rows = list(range(len(units)))
    figure = go.Figure(
        go.Scatter(
            x=[x for unit in units for x in (unit.before, unit.after, None)],
            y=[y for row in rows for y in (row, row, None)],
            mode="lines",
            line=dict(color=REFERENCE, width=1.5),
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for name, role, xs in (
        ("base", "base", [unit.before for unit in units]),
        ("NPT", "npt", [unit.after for unit in units]),
    ):
        figure.add_scatter(
            x=xs,
            y=rows,
            mode="markers",
            name=name,
            marker=dict(color=ROLES[role], size=9),
            text=[
                f"unit {unit.index}: {number(unit.before)} → {number(unit.after)} (δ {number(unit.change)})"
                for unit in units
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(0, line=dict(color=REFERENCE, width=1))
    _rows(figure, [f"unit {unit.index}" for unit in units], theme)
    figure.update_xaxes(title=dict(text="gate pre-activation W_g z", font_size=11))
    return figure


def vocabulary_changes(card: TokenCard | DirectionVocabulary, theme: Theme = "light") -> go.Figure:
    """The next tokens whose logits rise and fall most, to first order; dashed: the most that a random direction does."""
    entries = (*card.promoted, *card.suppressed[::-1])[::-1]
    figure = go.Figure(
        go.Bar(
            x=[entry.change for entry in entries],
            y=list(range(len(entries))),
            orientation="h",
            marker=dict(color=[ABOVE if entry.change > 0 else BELOW for entry in entries], line_width=0),
            text=[f"<b>{plain(e.glyph)}</b>  id {e.id}<br>{number(e.change)} logit units" for e in entries],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vline(0, line=dict(color=REFERENCE, width=1))
    if isinstance(card, DirectionVocabulary):
        for side in (-1, 1):
            figure.add_vline(
                side * card.random.mean, line=dict(color=ROLES["random"], width=1.5, dash="dash")
            )
    _rows(figure, [plain(shortened(entry.glyph)) for entry in entries], theme)
    figure.update_xaxes(title=dict(text="change of the logit", font_size=11))
    figure.update_layout(bargap=0.25)
    return figure


def _rows(figure: go.Figure, labels: list[str], theme: Theme) -> None:
    styled(figure, height=460, theme=theme)
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=labels,
        range=[-0.7, len(labels) - 0.3],
        tickfont=dict(family="monospace", size=11),
    )

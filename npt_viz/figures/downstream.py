"""Predictions of the NPT model in pictures, beside the same layers with their modulation off."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import token_axis
from npt_viz.figures.theme import FAINT, INK, REFERENCE, ROLES, Theme, number, plain, styled
from npt_viz.results.downstream import Arm, Downstream, Run
from npt_viz.results.reconstruction import percent

SIDES = (("modulation off", "no modulation", "off"), ("NPT", "npt", "npt"))
"""(legend, role, field of an Arm)"""


def kl_by_arm(result: Downstream, theme: Theme = "light") -> go.Figure:
    """One row for the whole NPT model and each layer alone: KL with the modulation off, and what the checkpoint makes of it."""
    arms = _whole_and_alone(result)
    rows = list(range(len(arms)))[::-1]
    figure = go.Figure(
        go.Scatter(
            x=[x for arm in arms for x in (arm.off.median_kl, arm.npt.median_kl, None)],
            y=[y for row in rows for y in (row, row, None)],
            mode="lines",
            line=dict(color=REFERENCE, width=2),
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for name, role, side in SIDES:
        figure.add_scatter(
            x=[getattr(arm, side).median_kl for arm in arms],
            y=rows,
            mode="markers",
            name=name,
            marker=dict(color=ROLES[role], size=11),
            text=[_told(arm, getattr(arm, side), name, result) for arm in arms],
            hovertemplate="%{text}<extra></extra>",
        )
    styled(figure, height=26 * len(rows) + 110, theme=theme)
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[
            f"{'all' if arm is result.whole and len(result.layers) > 1 else 'layer ' + str(arm.layers[0])} · "
            f"{percent(arm.share_recovered)}"
            for arm in arms
        ],
        range=[-0.7, len(rows) - 0.3],
    )
    figure.update_xaxes(
        title=dict(text="KL(base ‖ changed), nats, median over tokens", font_size=11), rangemode="tozero"
    )
    return figure


def cascade(result: Downstream, theme: Theme = "light") -> go.Figure:
    """KL as NPT layers are switched on from below, beside the same layers with their modulation off."""
    arms = result.cumulative
    places = list(range(len(arms)))
    figure = go.Figure()
    for name, role, side in SIDES:
        figure.add_scatter(
            x=places,
            y=[getattr(arm, side).median_kl for arm in arms],
            mode="lines+markers",
            name=name,
            line=dict(color=ROLES[role], width=2),
            marker_size=8,
            text=[_told(arm, getattr(arm, side), name, result) for arm in arms],
            hovertemplate="%{text}<extra></extra>",
        )
    styled(figure, height=300, theme=theme)
    figure.update_xaxes(
        tickvals=places,
        ticktext=[f"{'+' if i else ''}{arm.layers[-1]}" for i, arm in enumerate(arms)],
        title=dict(text="NPT layers, from below", font_size=11),
    )
    figure.update_yaxes(title=dict(text="KL, nats, median", font_size=11), rangemode="tozero")
    return figure


def drift(result: Downstream, theme: Theme = "light") -> go.Figure:
    """How far the residual stream is from the base's at every depth, with all NPT layers."""
    figure = go.Figure()
    depth = np.arange(len(result.whole.npt.drift))
    for layer in result.layers:
        figure.add_vline(layer, line=dict(color=FAINT, width=1))
    for name, role, side in SIDES:
        values = getattr(result.whole, side).drift
        figure.add_scatter(
            x=depth,
            y=values,
            mode="lines+markers",
            name=name,
            line=dict(color=ROLES[role], width=2),
            marker_size=5,
            text=[
                f"{'entering layer ' + str(d) if d < len(depth) - 1 else 'after the last layer'}<br>{name}: {number(v)}"
                for d, v in zip(depth, values, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    styled(figure, height=300, theme=theme)
    figure.update_xaxes(title=dict(text="depth: entering layer …; thin lines: NPT layers", font_size=11))
    figure.update_yaxes(title=dict(text="‖h' − h‖ / ‖h‖, median", font_size=11), rangemode="tozero")
    return figure


def kl_by_token(
    result: Downstream,
    *,
    arm: Arm,
    shown: range,
    pin: int | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """KL after every token, beside that with the modulation off."""
    columns = np.arange(shown.start, min(shown.stop, len(result.tokens)))
    labels = [f"<b>{plain(result.tokens[i])}</b>  #{i}" for i in columns]
    figure = go.Figure()
    figure.add_bar(
        x=columns,
        y=arm.npt.kl[columns],
        name="NPT",
        marker=dict(
            color=ROLES["npt"],
            line=dict(color=[INK[theme] if i == pin else "rgba(0,0,0,0)" for i in columns], width=2),
        ),
        customdata=np.stack([columns], -1),
        text=[
            f"{label}<br>KL {number(arm.npt.kl[i])} nats" for label, i in zip(labels, columns, strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
    )
    figure.add_scatter(
        x=columns,
        y=arm.off.kl[columns],
        mode="markers",
        name="modulation off",
        marker=dict(
            color=ROLES["no modulation"],
            symbol="line-ew",
            size=9,
            line=dict(color=ROLES["no modulation"], width=2),
        ),
        text=[
            f"{label}<br>modulation off: KL {number(arm.off.kl[i])} nats"
            for label, i in zip(labels, columns, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    styled(figure, height=230, theme=theme)
    token_axis(figure, result.tokens, columns)
    figure.update_yaxes(title=dict(text="KL, nats", font_size=11), rangemode="tozero")
    figure.update_layout(hovermode="closest", clickmode="event+select", bargap=0.15)
    return figure


def _whole_and_alone(result: Downstream) -> Sequence[Arm]:
    return result.alone if len(result.layers) == 1 else (result.whole, *result.alone)


def _told(arm: Arm, run: Run, name: str, result: Downstream) -> str:
    return (
        f"<b>{arm.name}</b>, {name}<br>KL {number(run.median_kl)} nats (mean {number(run.mean_kl)})"
        f"<br>perplexity {number(run.perplexity)}, base {number(result.perplexity_base)}"
        f"<br>same top token {percent(run.agreement)}"
    )

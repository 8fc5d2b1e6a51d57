"""Parts of a modulation: the units that it moves, and its components."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.directions import ALIGNMENT
from npt_viz.figures.theme import (
    FAINT,
    INK,
    REFERENCE,
    ROLES,
    Theme,
    colour_scale,
    number,
    plain,
    styled,
)
from npt_viz.results.directions import ComponentShares, MovedUnits


def moved_units(result: MovedUnits, *, tokens: Sequence[str], pin: int, theme: Theme = "light") -> go.Figure:
    """One row a unit, one point a token; the bar is the unit's own size without modulation."""
    rows = list(range(len(result.units)))[::-1]
    figure = go.Figure(
        go.Bar(
            x=2 * result.own_sizes,
            base=-result.own_sizes,
            y=rows,
            orientation="h",
            width=0.7,
            marker=dict(color=FAINT, line_width=0),
            name="± own size without modulation (rms)",
            hoverinfo="skip",
        )
    )
    pinned = np.tile(result.tokens == pin, len(rows))
    figure.add_scatter(
        x=result.changes.ravel(),
        y=np.repeat(rows, len(result.tokens)),
        mode="markers",
        name="what a token adds",
        customdata=np.stack(
            [np.tile(result.tokens, len(rows)), np.repeat(result.units, len(result.tokens))], -1
        ),
        text=[
            f"<b>{plain(tokens[i])}</b>  #{i}<br>unit {unit}: {number(change)}"
            for unit, changes in zip(result.units, result.changes, strict=True)
            for i, change in zip(map(int, result.tokens), changes, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        marker=dict(
            color=np.where(pinned, INK[theme], ROLES["npt"]),
            size=np.where(pinned, 11, 6),
            opacity=np.where(pinned, 1, 0.55),
        ),
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=0.55)),
    )
    figure.add_vline(0, line=dict(color=REFERENCE, width=1))
    styled(figure, height=26 * len(rows) + 110, theme=theme)
    unit = "dim" if result.target == "down" else "unit"
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[
            f"{unit} {index} · {share:.1%}"
            for index, share in zip(result.units, result.energy_shares, strict=True)
        ],
        tickfont=dict(family="monospace", size=11),
        range=[-0.7, len(rows) - 0.3],
    )
    figure.update_xaxes(title=dict(text=f"change of the {result.target}'s output", font_size=11))
    figure.update_layout(hovermode="closest", clickmode="event+select", barmode="overlay")
    return figure


def component_shares(result: ComponentShares, theme: Theme = "light") -> go.Figure:
    """Each component's share of the summed effect, against equal shares."""
    components = list(range(len(result.shares)))
    figure = go.Figure(
        go.Bar(
            x=components,
            y=result.shares,
            marker=dict(color=ROLES["npt"], line_width=0),
            text=[
                f"component {j}<br>share {share:.1%}<br>scalar {number(mean)} ± {number(sd)}"
                for j, share, mean, sd in zip(
                    components, result.shares, result.scalar_means, result.scalar_sds, strict=True
                )
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_hline(0, line=dict(color=REFERENCE, width=1))
    figure.add_hline(
        1 / len(components),
        line=dict(color=REFERENCE, width=1, dash="dash"),
        annotation=dict(text="equal shares", font_size=11),
    )
    styled(figure, height=300, theme=theme)
    figure.update_xaxes(title=dict(text="component", font_size=11), dtick=max(1, len(components) // 16))
    figure.update_yaxes(title=dict(text="share of s·v_b", font_size=11), tickformat="~%")
    return figure


def component_cosines(result: ComponentShares, theme: Theme = "light") -> go.Figure:
    """How alike the components' effects are, mean over tokens; 0 is unrelated."""
    scale = colour_scale(ALIGNMENT, np.array([-1.0, 1.0]), theme)
    components = list(range(len(result.shares)))
    figure = go.Figure(
        go.Heatmap(
            z=result.cosines,
            x=components,
            y=components,
            colorscale=scale.colorscale,
            zmin=-1,
            zmax=1,
            hovertemplate="components %{x} and %{y}: %{z:.3f}<extra></extra>",
            colorbar=dict(thickness=8, outlinewidth=0, tickvals=[-1, 0, 1], tickfont_size=11),
        )
    )
    styled(figure, height=300, theme=theme)
    step = max(1, len(components) // 16)
    figure.update_xaxes(title=dict(text="component", font_size=11), dtick=step)
    figure.update_yaxes(autorange="reversed", scaleanchor="x", dtick=step)
    return figure

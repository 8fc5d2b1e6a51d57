"""Profiles: one number along the tokens, against its reference and its typical value."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import token_axis
from npt_viz.figures.theme import FAINT, INK, REFERENCE, ColourScale, number, plain, styled


def token_profile(
    values: np.ndarray,
    *,
    tokens: Sequence[str],
    scale: ColourScale,
    left_out: np.ndarray | None = None,
    pin: int | None = None,
    shown: range | None = None,
    labelled: bool = True,
    floor: float | None = None,
) -> go.Figure:
    """Bars from the reference or the floor, coloured as in the strip, and the median of the tokens that count.

    values: (token,), all of them; left_out: (token,) bool, drawn faint and kept out of the median and the range.
    labelled: False where a figure below has the token labels.
    floor: what bars stand on where that is not the reference: 0 for a share, which cannot be less.
    """
    shown = shown or range(len(values))
    columns = np.arange(shown.start, shown.stop)
    values = np.asarray(values, float)
    hidden = np.zeros(len(values), bool) if left_out is None else np.asarray(left_out)
    reference = scale.metric.reference
    if floor is None:
        floor = reference if reference is not None else 0.0
    # A bar that is left out may be a thousand times taller than the others: it ends at the edge of the figure.
    low, high = value_range(values[~hidden], floor)
    drawn = np.clip(values[columns], low, high)
    colours = [
        FAINT if hidden[i] or colour is None else colour
        for i, colour in zip(columns, scale.colours(values[columns]), strict=True)
    ]
    edge = 0.5 if len(columns) <= 64 else 0
    outlines = [INK[scale.theme] if i == pin else "rgba(128,132,142,0.55)" for i in columns]
    figure = go.Figure(
        go.Bar(
            x=columns,
            y=drawn - floor,
            base=floor,
            customdata=np.stack([columns, values[columns]], -1),
            text=[
                f"<b>{plain(tokens[i])}</b>  #{i}<br>{plain(scale.metric.label)} {number(values[i])}"
                for i in map(int, columns)
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
            marker=dict(
                color=colours, line=dict(color=outlines, width=[2 if i == pin else edge for i in columns])
            ),
            selected=dict(marker=dict(opacity=1)),
            unselected=dict(marker=dict(opacity=1)),
            showlegend=False,
        )
    )
    styled(figure, height=150, theme=scale.theme)
    token_axis(figure, tokens, columns, labelled=labelled)
    if reference is not None:
        figure.add_hline(reference, line=dict(color=REFERENCE, width=1))
    kept = values[~hidden & np.isfinite(values)]
    if kept.size:
        median = float(np.median(kept))
        figure.add_hline(median, line=dict(color=REFERENCE, width=1, dash="dot"))
        figure.add_annotation(
            x=1,
            xref="paper",
            y=median,
            text=f"median {number(median)}",
            showarrow=False,
            xanchor="left",
            font_size=11,
        )
    figure.update_yaxes(range=[low, high], title=dict(text=plain(scale.metric.label), font_size=11), nticks=5)
    figure.update_layout(bargap=0.12, hovermode="closest", clickmode="event+select", margin=dict(t=10, b=4))
    return figure


def value_range(kept: np.ndarray, floor: float) -> tuple[float, float]:
    """Lower and upper end of an axis that shows these values and the floor that bars stand on."""
    kept = kept[np.isfinite(kept)]
    low, high = (min(floor, kept.min()), max(floor, kept.max())) if kept.size else (floor, floor + 1)
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin * (low < floor), high + margin

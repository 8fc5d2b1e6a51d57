"""Reconstruction in pictures: shares recovered, the two parts of the error, what the gate could do, ablations."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from npt_viz.figures.theme import FAINT, INK, REFERENCE, ROLES, Theme, number, plain, styled
from npt_viz.results.reconstruction import (
    AblationTable,
    ClassFloor,
    GateOracle,
    LayerFit,
    PositionsCompared,
    Reconstruction,
    percent,
)
from npt_viz.results.sentences.reconstruction import class_floor

WORST_SHOWN = -0.5
"""Shares below this end at the edge of the figure; the tooltip has the number."""

TALLEST = 182
"""Pixels that the rows of all layers take at most, of the first screen's height."""

LABEL = 18
"""Pixels of a row's label."""

POSITIONS_IN_WORDS: Mapping[str, str] = {"deployed": "positions as deployed", "trained": "without RoPE"}

LEAST_KL = 1e-5
"""The left end of a logarithmic axis: below, two predictions are the same."""


def shares_by_layer(
    result: PositionsCompared,
    *,
    mode: str,
    positions: str,
    floors: Mapping[int, Sequence[ClassFloor]] | None = None,
    pin: int | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """One row a layer: the median share recovered and where most tokens lie, between no modulation and the exact patch.

    Filled: in this mode, with these positions; open: in the other mode; squares: with the other positions.
    floors: what the shapes allow, where it has been estimated; the layer's own shape first.
    """
    runs: dict[str, Reconstruction] = {**result.runs}
    shown = runs[positions]
    layers = list(shown.layers)
    rows = list(range(len(layers)))
    figure = go.Figure()
    spans = [_span(shown.counted(shown.fits(mode)[layer].recovered)) for layer in layers]
    figure.add_scatter(
        x=[x for low, _, high in spans for x in (_clipped(low), _clipped(high), None)],
        y=[y for row in rows for y in (row, row, None)],
        mode="lines",
        line=dict(color=FAINT, width=7),
        name="80 % of the tokens",
        hoverinfo="skip",
    )
    other_mode = "propagated" if mode == "local" else "local"
    other_positions = "trained" if positions == "deployed" else "deployed"
    for where, which, symbol, size in (
        (positions, other_mode, "circle-open", 9),
        (other_positions, mode, "square-open", 11),
        (positions, mode, "circle", 12),
    ):
        run, words = runs[where], f"{which}, {POSITIONS_IN_WORDS[where]}"
        medians = [run.median("recovered", layer, which) for layer in layers]
        figure.add_scatter(
            x=[_clipped(share) for share in medians],
            y=rows,
            mode="markers",
            name=words,
            marker=dict(color=ROLES["npt"], symbol=symbol, size=size, line_width=2),
            customdata=[[layer] for layer in layers],
            text=[
                f"<b>layer {layer}</b>, {words}<br>recovers {percent(share)}, median of {run.n_counted} tokens"
                for layer, share in zip(layers, medians, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    _floors(figure, layers, floors or {})
    for x, name, role, anchor in (
        (0, "no modulation", "no modulation", "right"),
        (1, "exact patch", "exact", "left"),
    ):
        figure.add_vline(x, line=dict(color=ROLES[role], width=1.5))
        figure.add_annotation(
            x=x, y=len(rows) - 0.5, text=name, showarrow=False, font=dict(size=11, color=ROLES[role]),
            xanchor=anchor, yanchor="top",
        )  # fmt: skip
    # Many layers share the height that a first screen has for them.
    styled(figure, height=96 + min(max(54, 26 * len(rows)), TALLEST), theme=theme)
    named = rows[:: -(-len(rows) * LABEL // TALLEST)]
    if pin in layers:
        at = layers.index(pin)
        named = sorted({at, *(row for row in named if abs(row - at) * TALLEST >= LABEL * len(rows))})
    figure.update_yaxes(
        tickvals=named,
        ticktext=[
            f"<b>layer {layers[row]}</b>" if layers[row] == pin else f"layer {layers[row]}" for row in named
        ],
        range=[-0.6, len(rows) - 0.4],
    )
    lowest = min([_clipped(low) for low, _, _ in spans if np.isfinite(low)], default=0)
    figure.update_xaxes(
        range=[min(lowest, 0) - 0.14, 1.16],
        tickformat="~%",
        title=dict(text="share of the attention effect recovered", font_size=11),
    )
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return figure


def _floors(figure: go.Figure, layers: Sequence[int], floors: Mapping[int, Sequence[ClassFloor]]) -> None:
    for larger, symbol, name in (
        (False, "line-ns", "what this shape allows"),
        (True, "diamond", "a larger shape"),
    ):
        drawn = [
            (layers.index(layer), floor)
            for layer, of_layer in floors.items()
            if layer in layers
            for i, floor in enumerate(of_layer)
            if (i > 0) == larger
        ]
        if not drawn:
            continue
        figure.add_scatter(
            x=[_clipped(floor.allows) for _, floor in drawn],
            y=[row for row, _ in drawn],
            mode="markers",
            name=name,
            marker=dict(
                color=ROLES["rank floor"],
                symbol=symbol,
                size=10 if larger else 22,
                line=dict(color=ROLES["rank floor"], width=1 if larger else 3),
            ),
            text=[plain(str(class_floor(floor))) for _, floor in drawn],
            hovertemplate="%{text}<extra></extra>",
        )


def error_parts(
    fit: LayerFit,
    *,
    tokens: Sequence[str],
    left_out: np.ndarray,
    pin: int | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """One point a token: its error along a (left of 0 attention is missing) and the rest; the origin is perfect.

    Grey: the same tokens without modulation. The distance from the origin is the relative error.
    """
    kept = np.flatnonzero(~left_out & np.isfinite(fit.relative_error))
    figure = go.Figure()
    off_beside = np.sqrt(np.clip(fit.unmodulated_error**2 - fit.unmodulated_along**2, 0, None))
    drawn = (
        ("no modulation", "no modulation", fit.unmodulated_along, off_beside, 5, "circle-open"),
        ("this checkpoint", "npt", fit.error_along, fit.error_beside, 7, "circle"),
    )
    for name, role, along, beside, size, symbol in drawn:
        figure.add_scatter(
            x=along[kept],
            y=beside[kept],
            mode="markers",
            name=name,
            customdata=np.stack([kept], -1),
            text=[
                f"<b>{plain(tokens[i])}</b>  #{i}<br>{name}<br>along a {number(along[i])}, beside it {number(beside[i])}"
                for i in map(int, kept)
            ],
            hovertemplate="%{text}<extra></extra>",
            marker=dict(color=ROLES[role], size=size, symbol=symbol, opacity=0.8),
            selected=dict(marker=dict(opacity=0.8)),
            unselected=dict(marker=dict(opacity=0.8)),
        )
    if pin in kept:
        figure.add_scatter(
            x=[fit.error_along[pin]],
            y=[fit.error_beside[pin]],
            mode="markers",
            marker=dict(color="rgba(0,0,0,0)", size=14, line=dict(color=INK[theme], width=2)),
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_vline(0, line=dict(color=REFERENCE, width=1))
    styled(figure, height=330, theme=theme)
    figure.update_xaxes(title=dict(text="error along a, of ‖target‖", font_size=11), zeroline=False)
    figure.update_yaxes(title=dict(text="error beside a, of ‖target‖", font_size=11), rangemode="tozero")
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return figure


def gate_trade_off(result: GateOracle, theme: Theme = "light") -> go.Figure:
    """How small the error can be made by moving the gate alone, and how far it has to move; medians and 80 % of tokens."""
    movement, error = np.median(result.movement, axis=1), np.median(result.relative_error, axis=1)
    low, high = np.quantile(result.relative_error, [0.1, 0.9], axis=1)
    figure = go.Figure()
    figure.add_scatter(
        x=np.concatenate([movement, movement[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        mode="lines",
        line_width=0,
        fillcolor=FAINT,
        hoverinfo="skip",
        name="80 % of the tokens",
    )
    figure.add_scatter(
        x=movement,
        y=error,
        mode="lines+markers",
        name="best gate at each token",
        line=dict(color=ROLES["exact"], width=2),
        text=[
            f"λ = {number(penalty)}<br>error {number(e)}, gate moved {number(m)} times its norm"
            for penalty, e, m in zip(result.penalties, error, movement, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    own = float(np.median(result.adapter_movement)), float(np.median(result.adapter_error))
    figure.add_scatter(
        x=[own[0]],
        y=[own[1]],
        mode="markers",
        name="this checkpoint",
        marker=dict(color=ROLES["npt"], size=12),
        text=[f"this checkpoint<br>error {number(own[1])}, gate moved {number(own[0])} times its norm"],
        hovertemplate="%{text}<extra></extra>",
    )
    nothing = float(np.median(result.unmodulated_error))
    figure.add_hline(
        nothing,
        line=dict(color=ROLES["no modulation"], width=1.5, dash="dot"),
        annotation=dict(
            text="no modulation", font=dict(size=11, color=ROLES["no modulation"]), xanchor="right"
        ),
    )
    styled(figure, height=330, theme=theme)
    figure.update_xaxes(
        title=dict(text="how far the gate moves, ‖δ‖ / ‖gate‖", font_size=11), rangemode="tozero"
    )
    figure.update_yaxes(
        title=dict(text="relative error", font_size=11), range=[0, 1.1 * max(nothing, own[1])]
    )
    return figure


def ablations(result: AblationTable, theme: Theme = "light") -> go.Figure:
    """One row an ablation: the share that is left, and KL where the layer was run for real.

    Lines: the layer as it is, dotted, and no modulation.
    """
    rows = list(range(len(result.rows)))[::-1]
    with_kl = result.rows[0].kl is not None
    figure = make_subplots(1, 2 if with_kl else 1, shared_yaxes=True, horizontal_spacing=0.04)
    panels = [("recovered", "share recovered, local", WORST_SHOWN)]
    panels += [("kl", "KL(base ‖ this layer alone), nats", LEAST_KL)] if with_kl else []
    for column, (metric, title, lowest) in enumerate(panels, start=1):
        medians = np.array([result.median(metric, row) for row in result.rows])
        figure.add_scatter(
            x=np.maximum(medians, lowest),
            y=rows,
            mode="markers",
            marker=dict(
                color=[ROLES["npt"] if i == 0 else ROLES["base"] for i in range(len(rows))],
                size=11,
                # An arrow where the value lies beyond the edge.
                symbol=["triangle-left" if median < lowest else "circle" for median in medians],
            ),
            text=[
                f"<b>{plain(row.name)}</b>: {percent(m) if metric == 'recovered' else number(m)}<br>{plain(row.meaning)}"
                for row, m in zip(result.rows, medians, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        for name, role, dash in (("as it is", "npt", "dot"), ("×0", "no modulation", "solid")):
            at = [median for row, median in zip(result.rows, medians, strict=True) if row.name == name]
            if at and np.isfinite(at[0]):
                line = dict(color=ROLES[role], width=1.5, dash=dash)
                figure.add_vline(max(at[0], lowest), line=line, row=1, col=column)  # pyright: ignore[reportArgumentType]  # plotly types row and col as text.
        figure.update_xaxes(title=dict(text=title, font_size=11), row=1, col=column)
    if with_kl:
        figure.update_xaxes(type="log", dtick=1, row=1, col=2)
    styled(figure, height=26 * len(rows) + 96, theme=theme)
    figure.update_xaxes(tickformat="~%", row=1, col=1)
    figure.update_yaxes(
        tickvals=rows, ticktext=[plain(row.name) for row in result.rows], range=[-0.7, len(rows) - 0.3]
    )
    return figure


def _span(values: np.ndarray) -> tuple[float, float, float]:
    """10 %, median, 90 %; NaN where there is nothing."""
    kept = values[np.isfinite(values)]
    return tuple(np.quantile(kept, [0.1, 0.5, 0.9])) if kept.size else (np.nan, np.nan, np.nan)


def _clipped(share: float) -> float:
    return max(share, WORST_SHOWN) if np.isfinite(share) else np.nan

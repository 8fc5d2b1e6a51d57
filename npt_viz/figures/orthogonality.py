"""v_a against the common directions: how much of it lies there, and what a random vector would have there."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import layer_by_token
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
    styled,
)
from npt_viz.results.estimate import Estimate
from npt_viz.results.inspection import Metric
from npt_viz.results.orthogonality import LayerOrthogonality, random_share
from npt_viz.results.words import tenths


def share_metric(result: LayerOrthogonality) -> Metric:
    """How to read the share of one token; the reference is a random vector's."""
    return Metric(
        f"share in the top {result.top}",
        "",
        f"how much of v_a's energy lies in the first {result.top} principal axes of {result.of}; "
        f"a random vector has {result.top}/{result.dim}",
        result.random.mean,
        True,
    )


def against_random(
    result: LayerOrthogonality, *, along: Estimate, top: Estimate, theme: Theme = "light"
) -> go.Figure:
    """Two bars, the share along the mean direction and in the top axes, each over what a random vector has: q/d ± 2 sd.

    along, top: medians over the tokens that count, with their intervals.
    """
    rows = (
        (1, f"along the mean of {result.of}", along, random_share(1, result.dim)),
        (0, f"in the top {result.top} of {result.dim:,}", top, random_share(result.top, result.dim)),
    )
    figure = go.Figure()
    bands = [(max(mean - 2 * sd, 0), mean + 2 * sd) for *_, (mean, sd, _) in rows]
    figure.add_bar(
        x=[high - low for low, high in bands],
        base=[low for low, _ in bands],
        y=[row for row, *_ in rows],
        orientation="h",
        width=0.86,
        marker=dict(color=ROLES["random"], opacity=0.6, line_width=0),
        name="a random vector, ± 2 sd",
        hovertext=[f"a random vector: {tenths(mean)} ± {tenths(2 * sd)}" for *_, (mean, sd, _) in rows],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_bar(
        x=[estimate.value for _, _, estimate, _ in rows],
        y=[row for row, *_ in rows],
        orientation="h",
        width=0.5,
        marker=dict(color=ROLES["npt"], line_width=0),
        error_x=_whiskers([estimate for _, _, estimate, _ in rows], INK[theme]),
        name="v_a, median and 95 % interval",
        hovertext=[
            f"{name}: {tenths(estimate.value)}, {number(estimate.value / random.mean)} times a random vector's"
            for _, name, estimate, random in rows
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    styled(figure, height=200, theme=theme)
    figure.update_yaxes(
        tickvals=[row for row, *_ in rows],
        ticktext=[
            f"{name}<br><b>{tenths(estimate.value)}</b>, random {tenths(random.mean)}"
            for _, name, estimate, random in rows
        ],
        range=[-0.6, 1.6],
    )
    figure.update_xaxes(
        title=dict(text="share of v_a's energy", font_size=11), tickformat="~%", rangemode="tozero"
    )
    return figure.update_layout(barmode="overlay")


def _whiskers(estimates: Sequence[Estimate], colour: str) -> dict:
    """Error bars of intervals; none where the tokens are too few for one."""
    known = [np.isfinite(estimate.low) for estimate in estimates]
    return dict(
        array=[e.high - e.value if k else 0 for e, k in zip(estimates, known, strict=True)],
        arrayminus=[e.value - e.low if k else 0 for e, k in zip(estimates, known, strict=True)],
        color=colour,
        thickness=1.5,
        width=5,
    )


def share_curve(result: LayerOrthogonality, theme: Theme = "light") -> go.Figure:
    """Mean share of v_a in the first q axes for every q, against q/d ± 2 sd of a random vector."""
    q = np.arange(1, len(result.curve) + 1)
    mean, sd, _ = np.transpose([random_share(i, result.dim) for i in map(int, q)])
    figure = go.Figure(
        go.Scatter(
            x=np.concatenate([q, q[::-1]]),
            y=np.concatenate([mean + 2 * sd, np.maximum(mean - 2 * sd, 0)[::-1]]),
            fill="toself",
            fillcolor="rgba(181,101,167,0.22)",
            line_width=0,
            name="a random vector, ± 2 sd",
            hoverinfo="skip",
        )
    )
    figure.add_scatter(
        x=q, y=mean, mode="lines", name="q / d", line=dict(color=ROLES["random"], dash="dash", width=1.5)
    )
    figure.add_scatter(
        x=q,
        y=result.curve,
        mode="lines+markers",
        name="v_a, mean over tokens",
        line=dict(color=ROLES["npt"], width=2),
        marker=dict(size=4),
    )
    figure.add_vline(result.top, line=dict(color=REFERENCE, width=1, dash="dot"))
    figure.update_traces(hovertemplate="first %{x} axes: %{y:.2%}<extra></extra>", selector=dict(fill=None))
    styled(figure, height=360, theme=theme)
    figure.update_xaxes(title=dict(text=f"q, principal axes of {result.of}", font_size=11))
    figure.update_yaxes(
        title=dict(text="share of v_a's energy", font_size=11), tickformat="~%", rangemode="tozero"
    )
    return figure


def spectrum(result: LayerOrthogonality, theme: Theme = "light") -> go.Figure:
    """Share of the variance along each axis, against the largest that vectors without structure have."""
    q = np.arange(1, len(result.explained) + 1)
    colours = [ROLES["base"] if i <= result.top else FAINT for i in q]
    figure = go.Figure(
        go.Bar(
            x=q,
            y=result.explained,
            marker=dict(color=colours, line_width=0),
            hovertemplate="axis %{x}: %{y:.2%}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_hline(
        result.isotropic_edge,
        line=dict(color=ROLES["random"], width=1.5, dash="dash"),
        annotation=dict(text="no structure: at most", font_size=11),
    )
    styled(figure, height=360, theme=theme)
    figure.update_xaxes(title=dict(text=f"principal axis of {result.of}", font_size=11))
    of = "variance" if result.centred else "energy"
    figure.update_yaxes(title=dict(text=f"share of the {of}", font_size=11), tickformat="~%")
    figure.update_layout(bargap=0.15)
    return figure


def share_profile(
    result: LayerOrthogonality,
    *,
    tokens: Sequence[str],
    pin: int,
    shown: range,
    theme: Theme = "light",
) -> go.Figure:
    """The share of every token, with the band of random vectors; a click's customdata is (token, share)."""
    scale = colour_scale(share_metric(result), result.shares[~result.left_out], theme)
    figure = token_profile(
        result.shares, tokens=tokens, scale=scale, left_out=result.left_out, pin=pin, shown=shown, floor=0.0
    )
    mean, sd, _ = result.random
    figure.add_hrect(
        max(mean - 2 * sd, 0), mean + 2 * sd, fillcolor=ROLES["random"], opacity=0.22, line_width=0
    )
    figure.update_yaxes(tickformat="~%")
    return figure.update_layout(height=320)


def share_map(
    results: Sequence[LayerOrthogonality],
    *,
    tokens: Sequence[str],
    pin: tuple[int, int],
    shown: range,
    theme: Theme = "light",
) -> go.Figure:
    """Share of v_a in the top axes for every layer and token; a click's customdata is (layer, token, share)."""
    values = np.stack([result.shares for result in results])
    left_out = results[0].left_out
    scale: ColourScale = colour_scale(share_metric(results[0]), values[:, ~left_out], theme)
    return layer_by_token(
        values,
        layers=[result.layer for result in results],
        tokens=tokens,
        scale=scale,
        left_out=left_out,
        pin=pin,
        shown=shown,
    )


def principal_angles(result: LayerOrthogonality, theme: Theme = "light") -> go.Figure:
    """Angles between the top axes and the main directions of v_a, with those of random directions; 90° is orthogonal."""
    order = np.arange(1, len(result.angles) + 1)
    figure = go.Figure()
    figure.add_scatter(
        x=order,
        y=[baseline.mean for baseline in result.random_angles],
        mode="lines+markers",
        name=f"random directions ± 2 sd, {result.random_angles[0].n} draws",
        error_y=dict(array=[2 * baseline.sd for baseline in result.random_angles], color=ROLES["random"]),
        line=dict(color=ROLES["random"], dash="dash"),
        hovertemplate="angle %{x}: %{y:.1f}°<extra></extra>",
    )
    figure.add_scatter(
        x=order,
        y=result.angles,
        mode="lines+markers",
        name=f"the {len(order)} main directions of v_a",
        line=dict(color=ROLES["npt"]),
        text=[f"angle {i}: {number(angle)}°" for i, angle in zip(order, result.angles, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.add_hline(90, line=dict(color=REFERENCE, width=1))
    styled(figure, height=320, theme=theme)
    figure.update_xaxes(title=dict(text="principal angle", font_size=11), dtick=max(1, len(order) // 10))
    figure.update_yaxes(title=dict(text="degrees", font_size=11), range=[0, 95])
    return figure

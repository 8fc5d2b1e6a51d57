"""Figures of permanent updates and transplants."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from npt_viz.figures.theme import FAINT, INK, REFERENCE, ROLES, Theme, number, plain, shortened, styled
from npt_viz.results.editing import PARTS, AlphaSweep, EditReport, Leakage, NextToken, Scorecard

RULE_COLOURS = {
    "npt": ROLES["npt"],
    "minimum_norm": ROLES["rank floor"],
    "whitened": ROLES["edited"],
    "exact": ROLES["exact"],
}
LINEAR_BELOW = 0.1
"""Strengths within this distance of zero are spaced evenly, beyond it by factors."""


def next_tokens(rows: Sequence[NextToken], *, sides: tuple[str, str], theme: Theme = "light") -> go.Figure:
    """Next-token probabilities before and after, joined by a line; the most probable afterwards on top.

    sides: what before and after are called.
    """
    places = list(range(len(rows)))[::-1]
    before = [row.probability_before for row in rows]
    after = [row.probability_after for row in rows]
    figure = go.Figure()
    # One trace for all joints: gaps between them are None.
    figure.add_scatter(
        x=[x for pair in zip(before, after, strict=True) for x in (*pair, None)],
        y=[y for place in places for y in (place, place, None)],
        mode="lines",
        line=dict(color=FAINT, width=5),
        hoverinfo="skip",
        showlegend=False,
    )
    for name, values, role in ((sides[0], before, "base"), (sides[1], after, "edited")):
        figure.add_scatter(
            x=values,
            y=places,
            mode="markers",
            name=name,
            cliponaxis=False,  # Most candidates lie at 0, on the axis.
            marker=dict(
                color=ROLES[role], size=10, symbol="circle-open" if role == "base" else "circle", line_width=2
            ),
            text=[
                f"<b>{plain(row.glyph)}</b><br>{number(row.probability_before)} → {number(row.probability_after)}"
                f"<br>rank {row.rank_before:,} → {row.rank_after:,}"
                for row in rows
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    styled(figure, height=24 * len(rows) + 90, theme=theme)
    figure.update_yaxes(
        tickvals=places,
        ticktext=[f"{plain(shortened(row.glyph))} {_ranks(row)}" for row in rows],
        tickfont=dict(family="monospace", size=11),
        range=[-0.7, len(rows) - 0.3],
    )
    figure.update_xaxes(title=dict(text="probability", font_size=11), rangemode="tozero")
    figure.update_layout(hovermode="closest")
    return figure


def _ranks(row: NextToken) -> str:
    if row.rank_before == row.rank_after:
        return f"{row.rank_after}."
    return f"{row.rank_before:,}.→{row.rank_after:,}."


def sweep(
    result: AlphaSweep, *, alpha: float | None = None, height: int = 460, theme: Theme = "light"
) -> go.Figure:
    """Margin, KL on unrelated prompts and perplexity on neutral text along α; the usable window is shaded.

    A click on a point gives its α as customdata.
    """
    x = position_of(result.alphas)
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.46, 0.27, 0.27]
    )
    ratio = result.perplexity / result.before_perplexity
    lines = (
        (1, result.margin, "log p(new) − log p(old), nats", ROLES["edited"]),
        (1, result.new_log_probability, "log p(new), nats", ROLES["npt"]),
        (2, result.unrelated_kl, f"KL on {result.n_unrelated} unrelated prompts, nats", ROLES["base"]),
        (3, ratio, f"perplexity on {result.n_neutral_tokens} neutral tokens, × before", ROLES["exact"]),
    )
    for row, values, name, colour in lines:
        figure.add_scatter(
            x=x,
            y=values,
            mode="lines+markers",
            name=name,
            customdata=result.alphas,
            line=dict(color=colour, width=2),
            marker=dict(size=6),
            hovertemplate=f"α = %{{customdata:.3g}}<br>{plain(name)}: %{{y:.3g}}<extra></extra>",
            selected=dict(marker=dict(opacity=1)),
            unselected=dict(marker=dict(opacity=1)),
            row=row,
            col=1,
        )
    for row, limit in ((1, 0.0), (2, result.kl_limit), (3, result.perplexity_limit)):
        figure.add_hline(limit, line=dict(color=REFERENCE, width=1, dash="dot"), row=row, col=1)  # pyright: ignore[reportArgumentType]  # plotly types row and col as text.
    if result.window is not None:
        low, high = position_of(np.array(result.window))
        figure.add_vrect(low - 0.05, high + 0.05, fillcolor=ROLES["exact"], opacity=0.13, line_width=0)
    if alpha is not None:
        figure.add_vline(float(position_of(np.array([alpha]))[0]), line=dict(color=INK[theme], width=1))
    styled(figure, height=height, theme=theme)
    # What is drawn stands in the legend, with its unit over each point: titles of low rows would lie on each other.
    figure.update_yaxes(nticks=4, row=1, col=1)
    for row in (2, 3):
        figure.update_yaxes(nticks=3, tickfont_size=10, row=row, col=1)
    # Beyond the limits by far, the exact amount does not matter and would flatten all else.
    figure.update_yaxes(range=[0, _ceiling(result.unrelated_kl, result.kl_limit)], row=2, col=1)
    figure.update_yaxes(range=[min(0.97, ratio.min()), _ceiling(ratio - 1, 0.05) + 1], row=3, col=1)
    ticks = np.array([t for t in _TICKS if abs(t) <= np.abs(result.alphas).max() * 1.01])
    figure.update_xaxes(
        tickvals=position_of(ticks),
        ticktext=[f"{tick:g}" for tick in ticks],
        title=dict(text="α", font_size=11),
        row=3,
        col=1,
    )
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return figure


_TICKS = sorted({sign * value for sign in (-1, 1) for value in (0, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)})


def position_of(alphas: np.ndarray) -> np.ndarray:
    """Axis positions of strengths: linear around zero, logarithmic away from it."""
    return np.arcsinh(np.asarray(alphas, float) / LINEAR_BELOW)


def _ceiling(values: np.ndarray, limit: float) -> float:
    finite = values[np.isfinite(values)]
    highest = float(finite.max()) if finite.size else limit
    return 1.08 * max(2 * limit, min(highest, 20 * limit))


def scores(card: Scorecard, *, theme: Theme = "light") -> go.Figure:
    """Share of hits of every part with its 95 % interval, and the share that prefers new over old."""
    parts = [part for part in PARTS if part in card.parts]
    figure = go.Figure()
    for preferred, name, colour in (
        (False, "expected is the top token", ROLES["edited"]),
        (True, "new beats old", FAINT),
    ):
        shares = [card.score(part, preferred=preferred) for part in parts]
        shown = [i for i, part in enumerate(parts) if not (preferred and part == "locality")]
        figure.add_bar(
            x=[parts[i] for i in shown],
            y=[shares[i].value for i in shown],
            name=name,
            marker=dict(color=colour, line=dict(color=REFERENCE, width=1 if preferred else 0)),
            error_y=dict(
                type="data",
                symmetric=False,
                array=[shares[i].interval[1] - shares[i].value for i in shown],
                arrayminus=[shares[i].value - shares[i].interval[0] for i in shown],
                color=REFERENCE,
                thickness=1,
            ),
            text=[f"{shares[i].hits:g}/{shares[i].n}" for i in shown],
            textposition="inside",
            insidetextanchor="start",
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    styled(figure, height=280, theme=theme)
    figure.update_yaxes(range=[0, 1.05], tickformat="~%", title=dict(text="share of prompts", font_size=11))
    figure.update_layout(barmode="group", hovermode="closest")
    return figure


def leakage(results: Sequence[Leakage], *, theme: Theme = "light") -> go.Figure:
    """Histogram of the effect on other tokens as a share of the effect at the source."""
    everything = np.concatenate([each.leakage for each in results])
    low, high = np.quantile(everything, [0.005, 0.995])
    edges = np.linspace(min(low, 0), max(high, 1.05), 81)
    figure = go.Figure()
    for each in results:
        counts, _ = np.histogram(np.clip(each.leakage, edges[0], edges[-1]), bins=edges)
        figure.add_scatter(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / len(each.leakage),
            mode="lines",
            line=dict(color=RULE_COLOURS[each.rule], width=2, shape="hvh"),
            name=f"{each.rule.replace('_', ' ')}, rms {number(each.rms)}",
            hovertemplate="%{x:.2f}: %{y:.1%}<extra></extra>",
        )
    for value, text in ((0, "no leak"), (1, "as at the source")):
        figure.add_vline(
            value,
            line=dict(color=REFERENCE, width=1, dash="dot"),
            annotation=dict(text=text, font_size=11, yanchor="bottom"),
        )
    styled(figure, height=320, theme=theme)
    figure.update_xaxes(title=dict(text="v_a·x′ / v_a·x, the effect on another token", font_size=11))
    figure.update_yaxes(title=dict(text="share of reference tokens", font_size=11), tickformat="~%")
    figure.update_layout(margin_t=52, legend_y=1.08)
    return figure


def singular_values(report: EditReport, *, theme: Theme = "light") -> go.Figure:
    """Singular values of the summed ΔW of every projection."""
    figure = go.Figure()
    for parameter, values in report.singular_values.items():
        figure.add_scatter(
            x=np.arange(1, len(values) + 1),
            y=values,
            mode="lines+markers",
            name=parameter.removeprefix("model.layers.").removesuffix("_proj.weight").replace(".mlp.", " "),
            hovertemplate="%{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )
    styled(figure, height=280, theme=theme)
    figure.update_xaxes(
        title=dict(text="singular value of ΔW", font_size=11),
        dtick=1 if figure.data and len(figure.data[0].x) < 20 else None,
    )
    figure.update_yaxes(rangemode="tozero", title=dict(text="size", font_size=11))
    return figure


def layer_shares(
    layers: Sequence[int], at_token: Sequence[float], at_end: Sequence[float], *, theme: Theme = "light"
) -> go.Figure:
    """KL of the transplant into each layer alone, at the token and at the end of the prompt."""
    figure = go.Figure()
    for name, values, colour in (
        ("at the token", at_token, ROLES["edited"]),
        ("at the last token", at_end, FAINT),
    ):
        figure.add_bar(
            x=[str(layer) for layer in layers],
            y=list(values),
            name=name,
            marker=dict(color=colour, line=dict(color=REFERENCE, width=1)),
            hovertemplate="layer %{x}: %{y:.3g} nats<extra></extra>",
        )
    styled(figure, height=260, theme=theme)
    figure.update_xaxes(type="category", title=dict(text="layer, transplanted alone", font_size=11))
    figure.update_yaxes(title=dict(text="KL(NPT ‖ transplanted), nats", font_size=11), rangemode="tozero")
    return figure

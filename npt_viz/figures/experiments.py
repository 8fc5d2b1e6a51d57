"""Arms of an experiment: their curves on one axis, their final numbers beside chance, their tokens below each other."""

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.maps import token_axis
from npt_viz.figures.theme import FAINT, REFERENCE, Theme, colour_scale, log_y, number, plain, styled
from npt_viz.results.experiments import MEASURES, ExperimentResult
from npt_viz.results.inspection import METRICS, TOKEN_METRICS

_COLOURS = ("#3b86c6", "#e0702c", "#1f9e78", "#b565a7", "#b8961e", "#d0495f", "#5c6370", "#6aa5a9")
_DASHES = ("solid", "dash", "dot")

CURVES = {
    "heldout/recovered": "Share recovered, held-out text",
    "heldout/relative_error": "Relative error, held-out text",
    "total": "What each arm minimises",
    "grad_norm": "Gradient norm before clipping",
    "gate/scalar_variance": "Variance of the scalar, gate",
    "gate/update_norm": "‖ΔW‖ per token, gate",
}
"""Columns of Step.rows that are worth laying over each other -> title."""

_LOG = ("grad_norm", "gate/scalar_variance", "gate/update_norm")


def arm_style(result: ExperimentResult, arm: str) -> dict:
    """Colour and dash of an arm's line, the same in every figure."""
    i = list(result.arms).index(arm)
    return dict(color=_COLOURS[i % len(_COLOURS)], dash=_DASHES[i // len(_COLOURS) % len(_DASHES)])


def aligned_curves(
    result: ExperimentResult,
    column: str,
    *,
    layer: int,
    height: int = 320,
    theme: Theme = "light",
) -> go.Figure:
    """One column of one layer along the steps: each arm's mean over seeds, and a band from its lowest to its highest.

    A mean is taken at steps that every seed of the arm has reached.
    """
    figure, lowest = go.Figure(), np.inf
    for arm in result.arms:
        steps, values = _by_seed(result, arm, column, layer)
        if not len(steps):
            continue
        style, mean = arm_style(result, arm), values.mean(0)
        lowest = min(lowest, values.min())
        if len(values) > 1:
            figure.add_scatter(
                x=np.concatenate([steps, steps[::-1]]),
                y=np.concatenate([values.max(0), values.min(0)[::-1]]),
                mode="lines",
                fill="toself",
                fillcolor=_faint(style["color"]),
                line=dict(width=0),
                legendgroup=arm,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=steps,
            y=mean,
            name=plain(arm),
            legendgroup=arm,
            mode="lines+markers" if len(steps) <= 40 else "lines",
            line=dict(width=1.8, **style),
            marker=dict(size=4),
            hovertemplate=f"{plain(arm)} %{{y:.4g}} ({len(values)} seeds)<extra></extra>",
        )
    styled(figure, height=height, theme=theme)
    if column.endswith("recovered"):
        _line(figure, 0.0, "no modulation")
        _line(figure, 1.0, "perfect")
        # A diverged arm must not flatten the others; its line leaves the figure and its number stands in the table.
        top = max((trace.y.max() for trace in figure.data), default=1.0)
        figure.update_yaxes(range=[min(max(lowest, -0.5), 0.0) - 0.05, max(top, 1.0) + 0.05])
    elif column in _LOG and 0 < lowest < np.inf:
        log_y(figure)
    figure.update_xaxes(title=dict(text="step", font_size=11), rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def final_numbers(result: ExperimentResult, measure: str, *, theme: Theme = "light") -> go.Figure:
    """One row an arm: every seed a point, the mean a bar.

    The dashed line is the reference arm's mean.
    """
    rows = [comparison for comparison in result.comparisons(measure) if comparison.values][::-1]
    low, high = _range(result, measure)
    figure = go.Figure()
    for row, comparison in enumerate(rows):
        colour = arm_style(result, comparison.arm)["color"]
        figure.add_scatter(
            x=list(comparison.values),
            y=[row] * len(comparison.values),
            mode="markers",
            marker=dict(size=9, color=colour, opacity=0.65),
            hovertemplate=f"{plain(comparison.arm)} %{{x:.4g}}<extra></extra>",
            showlegend=False,
        )
        if low <= comparison.mean <= high:
            ends = dict(x0=comparison.mean, x1=comparison.mean, y0=row - 0.32, y1=row + 0.32)
            figure.add_shape(type="line", line=dict(color=colour, width=3), **ends)
        else:
            beyond = comparison.mean > high
            figure.add_annotation(
                x=high if beyond else low,
                y=row,
                xanchor="right" if beyond else "left",
                text=f"{number(comparison.mean)} →" if beyond else f"← {number(comparison.mean)}",
                showarrow=False,
                font=dict(size=11, color=colour),
            )
    reference = next((comparison for comparison in rows if comparison.verdict == "reference"), None)
    styled(figure, height=len(rows) * 28 + 70, theme=theme)
    if reference is not None:
        figure.add_vline(reference.mean, line=dict(color=REFERENCE, width=1, dash="dash"), layer="below")
    for value, label in _anchors(result, measure):
        _line(figure, value, label, vertical=True)
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[
            f"{plain(comparison.arm)}{' (reference)' if comparison.verdict == 'reference' else ''}"
            for comparison in rows
        ],
        range=[-0.6, len(rows) - 0.4],
        fixedrange=True,
    )
    figure.update_xaxes(
        title=dict(text=MEASURES[measure].label, font_size=11),
        showgrid=True,
        gridcolor=FAINT,
        range=[low, high],
    )
    return figure


def _range(result: ExperimentResult, measure: str) -> tuple[float, float]:
    """What the axis shows: the reference arm and the reference values, and arms up to as far again on either side.

    One arm that went wild must not press the others into a line.
    """
    means = [comparison.mean for comparison in result.comparisons(measure) if np.isfinite(comparison.mean)]
    anchors = [value for value, _ in _anchors(result, measure) if np.isfinite(value)]
    anchors += list(result.numbers(result.reference, measure).values())
    anchors = anchors or means or [0.0, 1.0]
    first, last = min(anchors), max(anchors)
    span = (last - first) or abs(first) or 1.0
    low = min([first, *(mean for mean in means if mean >= first - span)])
    high = max([last, *(mean for mean in means if mean <= last + span)])
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin, high + margin


def arm_strips(
    result: ExperimentResult, column: str, *, seed: int, shown: range | None = None, theme: Theme = "light"
) -> go.Figure | None:
    """The same tokens under every finished arm of a seed, in one colour scale; None where there is none.

    column: a key of Strip.columns: `kl`, or layer and metric such as `15 recovered`.
    """
    runs = [run for run in result.runs if run.seed == seed and run.strip and column in run.strip.columns]
    if not runs:
        return None
    tokens = runs[0].strip.tokens
    values = np.stack([run.strip.columns[column] for run in runs])
    name = column.split(" ")[-1]
    # Beyond −1 a share is no better or worse told than "far worse than nothing".
    scale = colour_scale(
        (METRICS | TOKEN_METRICS)[name], np.clip(values, -1, 1) if name == "recovered" else values, theme
    )
    columns = np.arange(len(tokens)) if shown is None else np.arange(shown.start, shown.stop)
    labels = [
        [f"<b>{plain(tokens[i])}</b>  #{i}<br>{plain(run.arm)}<br>{number(values[row, i])}" for i in columns]
        for row, run in enumerate(runs)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=values[:, columns],
            x=columns,
            y=np.arange(len(runs)),
            colorscale=scale.colorscale,
            zmin=scale.low,
            zmax=scale.high,
            text=labels,
            hovertemplate="%{text}<extra></extra>",
            xgap=1 if len(columns) <= 64 else 0,
            ygap=2,
            colorbar=dict(thickness=8, outlinewidth=0, len=1.0, tickfont=dict(size=11)),
        )
    )
    styled(figure, height=len(runs) * 26 + 90, theme=theme)
    token_axis(figure, tokens, columns)
    figure.update_layout(width=None, margin=dict(l=8, t=4))
    figure.update_yaxes(
        automargin=True,
        tickvals=list(range(len(runs))),
        ticktext=[plain(run.arm) for run in runs],
        autorange="reversed",
        fixedrange=True,
    )
    return figure


def _by_seed(result: ExperimentResult, arm: str, column: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """(steps, (seed, step) values) at the steps that all its runs with a curve have."""
    curves = [run.curves[layer].measured(column) for run in result.of(arm) if layer in run.curves]
    curves = [(steps, values) for steps, values in curves if len(steps)]
    if not curves:
        return np.zeros(0), np.zeros((0, 0))
    common = curves[0][0]
    for steps, _ in curves[1:]:
        common = np.intersect1d(common, steps)
    return common, np.stack([values[np.isin(steps, common)] for steps, values in curves])


def _anchors(result: ExperimentResult, measure: str):
    """Reference values of a measure that are no arms."""
    match measure:
        case "recovered" | "sink_recovered":
            yield 0.0, "no modulation"
            yield 1.0, "perfect"
        case "median_kl":
            yield 0.0, "base"
            yield result.base.get("off_median_kl", np.nan), "no modulation"
        case "perplexity":
            yield result.base.get("perplexity", np.nan), "base"
            yield result.base.get("off_perplexity", np.nan), "no modulation"


def _line(figure: go.Figure, value: float, label: str, *, vertical: bool = False) -> None:
    if not np.isfinite(value):
        return
    line = dict(color=REFERENCE, width=1, dash="dot")
    note = dict(text=label, showarrow=False, font_size=10)
    if vertical:
        figure.add_vline(value, line=line, layer="below")
        figure.add_annotation(x=value, y=1, yref="paper", yanchor="bottom", **note)
    else:
        figure.add_hline(value, line=line)
        figure.add_annotation(x=1, xref="paper", y=value, xanchor="right", yanchor="bottom", **note)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"

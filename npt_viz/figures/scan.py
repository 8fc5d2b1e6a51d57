"""A scan of a corpus in pictures: the spread of a number by layer, its means by kind of token, and two scans' differences."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.theme import FAINT, REFERENCE, ROLES, Theme, number, plain, styled
from npt_viz.results.scan import GROUPS, Quantity, ScanComparison, ScanResult

ROW = 30
"""Pixels of a row."""

LEAST_HEIGHT = 150

INNER, OUTER = (0.25, 0.75), (0.05, 0.95)
"""Quantiles that the thick and the thin bar of a row end at."""


def rows_of(result: ScanResult, column: str) -> list[Quantity]:
    """The quantities of one name, a row for each layer that has it."""
    return [quantity for quantity in result.quantities if quantity.column == column]


def spreads(
    result: ScanResult, column: str, *, height: int | None = None, theme: Theme = "light"
) -> go.Figure:
    """One row a layer: half of the tokens in the thick bar, nine of ten in the thin one, median and mean as points."""
    found = rows_of(result, column)
    names = [_row(quantity) for quantity in found]
    figure = go.Figure()
    for low, high, width, shade in ((*OUTER, 3, FAINT), (*INNER, 11, "rgba(224,112,44,0.45)")):
        for i, quantity in enumerate(found):
            ends = [result.quantile(quantity.key, level) for level in (low, high)]
            figure.add_scatter(
                x=ends,
                y=[i, i],
                mode="lines",
                line=dict(width=width, color=shade),
                hovertemplate=f"{names[i]}: {low:.0%} of tokens below {number(ends[0])}, {high:.0%} below "
                f"{number(ends[1])}<extra></extra>",
                showlegend=False,
            )
    medians = [result.quantile(quantity.key, 0.5) for quantity in found]
    means = [result.mean(quantity.key) for quantity in found]
    halves = [result.half_width(quantity.key) for quantity in found]
    ys = list(range(len(found)))
    figure.add_scatter(
        x=medians,
        y=ys,
        mode="markers",
        name="median",
        marker=dict(color=ROLES["npt"], size=9),
        text=[f"{name}: median {number(value)}" for name, value in zip(names, medians, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.add_scatter(
        x=means,
        y=ys,
        mode="markers",
        name="mean, 95 % over texts",
        marker=dict(color=REFERENCE, size=8, symbol="diamond"),
        error_x=dict(array=np.nan_to_num(halves), thickness=1.4, width=4),
        text=[
            f"{name}: mean {number(mean)} ± {number(half)} over {result.n_clusters[result.index(q.key)]:,} texts"
            for name, mean, half, q in zip(names, means, halves, found, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    styled(figure, height=height or max(LEAST_HEIGHT, ROW * len(found) + 76), theme=theme)
    _reference(figure, found[0])
    _at_rows(figure, names)
    ends = [result.quantile(quantity.key, level) for quantity in found for level in OUTER] + medians
    perfect = 1.0 if column == "recovered" else None
    _fit(figure, [*ends, found[0].metric.reference, perfect])
    _titled(figure, found[0])
    return figure


def by_group(
    result: ScanResult, key: str, way: str = "class", *, height: int | None = None, theme: Theme = "light"
) -> go.Figure:
    """The mean of one number over each kind of token, beside that over all of them; point sizes follow their numbers."""
    i, moments = result.index(key), result.group(way)
    kept = [j for j in range(len(GROUPS[way])) if moments.n[j, i]]
    names = [f"{GROUPS[way][j]} · {moments.n[j, i]:,}" for j in kept][::-1]
    values = moments.means[kept, i][::-1]
    sizes = moments.n[kept, i][::-1]
    figure = go.Figure(
        go.Scatter(
            x=values,
            y=list(range(len(kept))),
            mode="markers",
            marker=dict(
                color=ROLES["npt"], size=6 + 10 * np.sqrt(sizes / max(1, sizes.max(initial=1))), opacity=0.85
            ),
            text=[
                f"{name} tokens: mean {number(float(value))}"
                for name, value in zip(names, values, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vline(
        result.mean(key),
        line=dict(color=REFERENCE, width=1, dash="dash"),
        annotation=dict(text="all but sinks", font_size=11),
    )
    styled(figure, height=height or max(LEAST_HEIGHT, 25 * len(kept) + 66), theme=theme)
    _at_rows(figure, names)
    _titled(figure, result.quantities[i], "mean of ")
    return figure


def differences(comparison: ScanComparison, keys: Sequence[str], *, theme: Theme = "light") -> go.Figure:
    """B − A of some numbers of one unit, a row each, with 95 % intervals over texts; at the line nothing differs."""
    found = [comparison.of(key) for key in keys]
    names = [_row(each.quantity) for each in found]
    figure = go.Figure(
        go.Scatter(
            x=[each.difference for each in found],
            y=list(range(len(found))),
            mode="markers",
            marker=dict(color=ROLES["npt"], size=9),
            error_x=dict(array=np.nan_to_num([each.half_width for each in found]), thickness=1.6, width=5),
            text=[
                f"{name}: {number(each.difference)} ± {number(each.half_width)}, {each.verdict}"
                for name, each in zip(names, found, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vline(0, line=dict(color=REFERENCE, width=1))
    styled(figure, height=max(LEAST_HEIGHT, ROW * len(found) + 60), theme=theme)
    _at_rows(figure, names)
    _titled(figure, found[0].quantity, "B − A of the mean of ")
    return figure


def _row(quantity: Quantity) -> str:
    return "NPT model" if quantity.layer is None else f"layer {quantity.layer}"


def _at_rows(figure: go.Figure, names: Sequence[str]) -> None:
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[plain(name) for name in names],
        range=[-0.7, len(names) - 0.3],
    )


def _reference(figure: go.Figure, quantity: Quantity) -> None:
    reference = quantity.metric.reference
    if reference is None:
        return
    figure.add_vline(reference, line=dict(color=REFERENCE, width=1))
    if quantity.name == "recovered":
        figure.add_vline(1.0, line=dict(color=REFERENCE, width=1, dash="dot"))


def _fit(figure: go.Figure, values: Sequence[float | None]) -> None:
    """The axis by what the bars say: a mean that a few tokens have carried away stands at its edge no more."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    if finite:
        low, high = min(finite), max(finite)
        room = 0.06 * ((high - low) or abs(high) or 1.0)
        figure.update_xaxes(range=[low - room, high + room])


def _titled(figure: go.Figure, quantity: Quantity, before: str = "") -> None:
    unit = f" ({quantity.metric.unit})" if quantity.metric.unit else ""
    figure.update_xaxes(title=dict(text=plain(f"{before}{quantity.label}{unit}"), font_size=11))

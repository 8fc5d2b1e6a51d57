"""Curves of a running training, each against its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.theme import REFERENCE, ROLES, Theme, log_y, styled
from npt_viz.results.training import Curves

TERM_COLOURS = {
    "direct": "#e0702c",
    "direct_robust": "#b3541e",
    "attention_encoding": "#3b86c6",
    "fidelity": "#1f9e78",
    "kl": "#57b894",
    "regularisation": "#8b9099",
    "update_norm": "#5c6370",
    "strength": "#b8961e",
    "guidance": "#b565a7",
    "bottleneck": "#7b5cc4",
    "decomposed": "#d0495f",
    "consistency": "#4a8f3c",
    "orthogonality": "#2f9fb0",
}
"""One colour a loss, the same in every panel."""

_OTHER = ("#a8785a", "#6a8fb5", "#8a9a4b", "#c07f9d")
_DASHES = {"gate": "solid", "up": "dash", "down": "dot"}
_NORMS = {
    "v_a_norm": ("‖v_a‖", "#3b86c6"),
    "v_b_norm": ("‖v_b‖", "#e0702c"),
    "update_norm": ("‖ΔW‖", "#1f9e78"),
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Panel of curves that belong together."""

    title: str
    what: str
    """One line: what is drawn and what it is held against."""
    columns: str
    """Columns of Step.rows: `loss/*` for every term, `*/scalar_variance` for every target, or a name."""
    log: bool = False
    references: Mapping[str, float] | None = None
    """Label -> a horizontal line."""


PANELS: dict[str, Panel] = {
    "recovered": Panel(
        title="Share recovered, held-out text",
        what="Median over held-out tokens of the share of the attention effect; 0 is no modulation, 1 is perfect.",
        columns="heldout/recovered",
        references={"no modulation": 0.0, "perfect": 1.0},
    ),
    "losses": Panel(title="Losses", what="Each term before its weight.", columns="loss/*", log=True),
    "shares": Panel(
        title="Share of the total",
        what="Each term's part of the weighted sum, by size.",
        columns="share/*",
        references={"": 0.0, "all of it": 1.0},
    ),
    "gradients": Panel(
        title="Gradient norm of each loss",
        what="With respect to the adapter, before the weight: what pulls how hard.",
        columns="gradient/*",
        log=True,
    ),
    "cosines": Panel(
        title="Cosine between gradients",
        what="Of every pair of losses: below 0 one undoes the other; the alarm sounds at −0.5.",
        columns="cosine/*",
        references={"independent": 0.0, "alarm": -0.5},
    ),
    "variance": Panel(
        title="Variance of the scalar",
        what="Over the tokens of a step, for each target; a collapse to 0 leaves a constant.",
        columns="*/scalar_variance",
        log=True,
    ),
    "norms": Panel(
        title="Norms per token",
        what="Mean over tokens; only ‖ΔW‖ = ‖v_a‖‖v_b‖ is free of the gauge. Solid gate, dashed up, dotted down.",
        columns="*/norms",
        log=True,
    ),
    "total": Panel(
        log=True,
        title="Total and gradient",
        what="What is minimised, and its gradient before clipping.",
        columns="total",
    ),
}


def has_lines(name: str, curves: Curves) -> bool:
    """Whether a panel has anything to draw: an additive adapter has no scalar and no norms."""
    return any(len(curves.measured(column)[0]) for _, column, _ in _lines(PANELS[name].columns, curves))


def panel(
    name: str, curves: Curves, *, marks: Sequence[tuple[int, str]] = (), theme: Theme = "light"
) -> go.Figure:
    """One panel of one layer.

    marks: (step, label) of vertical lines: stages, curriculum.
    """
    wanted = PANELS[name]
    figure = go.Figure()
    lowest = np.inf
    for label, column, style in _lines(wanted.columns, curves):
        steps, values = curves.measured(column)
        lowest = min(lowest, values.min(initial=np.inf))
        figure.add_scatter(
            x=steps,
            y=values,
            name=label,
            mode="lines+markers" if len(steps) <= 60 else "lines",
            line=dict(width=1.6, **style),
            marker=dict(size=4),
            hovertemplate=f"{label} %{{y:.4g}}<extra></extra>",
        )
    styled(figure, height=230, theme=theme)
    for label, value in (wanted.references or {}).items():
        figure.add_hline(value, line=dict(color=REFERENCE, width=1, dash="dot"))
        figure.add_annotation(
            x=1,
            xref="paper",
            y=value,
            text=label,
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
            font_size=10,
        )
    for step, label in marks:
        figure.add_vline(step, line=dict(color=REFERENCE, width=1, dash="dash"))
        figure.add_annotation(
            x=step,
            y=1,
            yref="paper",
            text=label,
            showarrow=False,
            xanchor="left",
            yanchor="top",
            font_size=10,
        )
    # A term that may be negative has no logarithm; a zero is left out of the line.
    if wanted.log and 0 <= lowest < np.inf:
        log_y(figure)
    figure.update_xaxes(title=dict(text="step", font_size=11), rangemode="tozero")
    figure.update_layout(
        hovermode="x unified", showlegend=len(tuple(figure.data)) > 1, legend=dict(font_size=10)
    )
    return figure


def _lines(columns: str, curves: Curves):
    """(label, column, line style) of every line in a panel."""
    if columns.endswith("/*"):
        prefix = columns.removesuffix("/*")
        for i, part in enumerate(curves.parts(prefix)):
            colour = TERM_COLOURS.get(part.split("|")[0], _OTHER[i % len(_OTHER)])
            pair = part.replace("|", " · ").replace("_", " ")
            # Pairs that begin with the same loss share its colour.
            yield (
                pair,
                f"{prefix}/{part}",
                dict(color=colour, dash=("solid", "dash", "dot")[i % 3] if "|" in part else "solid"),
            )
        return
    targets = [target for target in _DASHES if f"{target}/scalar_variance" in curves.columns]
    if columns == "*/scalar_variance":
        for target in targets:
            yield target, f"{target}/scalar_variance", dict(color=ROLES["npt"], dash=_DASHES[target])
    elif columns == "*/norms":
        for target in targets:
            for column, (label, colour) in _NORMS.items():
                name = label if len(targets) == 1 else f"{label} {target}"
                yield name, f"{target}/{column}", dict(color=colour, dash=_DASHES[target])
    elif columns == "total":
        yield "total", "total", dict(color=ROLES["npt"])
        yield "gradient norm", "grad_norm", dict(color=ROLES["base"])
    else:
        yield columns.split("/")[-1], columns, dict(color=ROLES["npt"])

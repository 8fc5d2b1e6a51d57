"""Card of the pinned token: its numbers beside the prompt's, the prediction; on demand its components, units, next tokens."""

import html

import numpy as np
import streamlit as st

from npt_viz.figures.card import gate_units, vocabulary_changes
from npt_viz.figures.theme import ROLES, number
from npt_viz.results.glossary import explained
from npt_viz.results.inspection import (
    METRICS,
    NO_V_A_DOT_H,
    TOKEN_METRICS,
    Inspection,
    LayerInspection,
    Metric,
)
from npt_viz.results.token_card import TokenCard
from npt_viz.ui.cache import opened
from npt_viz.ui.shell import keeping
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.tables import Bar, Cell, table, table_html
from npt_viz.ui.widgets.view import View

NUMBERS = ("scalar", "v_a_dot_h", "update_norm", "gate_change", "recovered", "relative_error", "cosine")
"""Columns of METRICS that the card lists; KL follows where the NPT model was run."""

PARTS = ("components", "gate units", "next tokens")
"""What is shown of the token on demand, one at a time."""

MOST_COMPONENTS = 12
"""Components of a target that are listed: those that add most. T1 has as many as its rank."""

keeping.keep("card_part", PARTS[0])


def pinned_token(view: View) -> None:
    """Draw the card of the pinned token in the chosen layer; everything of it is in the inspection already."""
    with st.container(key="main_figure"), st.container(border=True, key="pinned_card"):
        # One element: a pin sends it anew.
        st.html(_title(view) + _numbers(view) + _prediction(view.run, view.token))


def more_of_the_token(view: View) -> None:
    """Draw the part of the token that is asked for: its components, the units it moves, the tokens it speaks for."""
    keeping.settle("card_part")
    part = st.segmented_control(
        f"More of token {view.token}", PARTS, key="card_part", help="Computed when it is looked at."
    )
    if part == "components":
        _components(view.run.layers[view.layer], view.token)
    elif part is not None:
        with st.spinner("Running the prompt up to the pinned token"):
            card = opened.token_card(view.asked, view.layer, view.token)
        if part == "gate units":
            st.caption(_units_help(card))
            chart(gate_units(card, view.theme), key="pinned_units")
        else:
            st.caption(_vocabulary_help(card))
            chart(vocabulary_changes(card, view.theme), key="pinned_vocabulary")


def _title(view: View) -> str:
    piece, run = view.run.pieces[view.token], view.run
    sink = " · attention sink" if run.is_sink[view.token] else ""
    return (
        f'<div class="npt-card-title"><h2><code>{html.escape(piece.glyph)}</code> token {view.token} of '
        f"{len(run.pieces):,}, layer {view.layer}</h2>"
        f"<p>id {piece.id} · <code>{html.escape(piece.raw)}</code> · {piece.kind}{sink}</p></div>"
    )


def _numbers(view: View) -> str:
    """The token's numbers beside the prompt's medians, sinks left out unless they count."""
    inspected, token = view.run.layers[view.layer], view.token
    listed = [(METRICS[name], inspected.values(name)) for name in NUMBERS]
    if view.run.kl is not None:
        listed.append((TOKEN_METRICS["kl"], view.run.kl))
    rows: list[dict[str, Cell]] = [
        {"metric": metric.label, "token": float(values[token]), "median": _median(values, view.left_out)}
        for metric, values in listed
    ]
    return table_html(
        rows,
        label="numbers of the token",
        help={"median": "Of this prompt's tokens, attention sinks left out unless they are counted."},
        row_help={metric.label: _over(metric) for metric, _ in listed},
    )


def _over(metric: Metric) -> str:
    reference = "" if metric.reference is None else f" Reference: {number(metric.reference)}."
    return f"{explained(metric.label)}{reference}"


def _median(values: np.ndarray, left_out: np.ndarray) -> float:
    kept = values[~left_out & np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else float("nan")


def _prediction(run: Inspection, token: int) -> str:
    """The next tokens of the base and of the NPT model, with the rank that NPT's had; empty where it was not run."""
    base, npt = run.base_top, run.npt_top
    if base is None or npt is None:
        return ""
    base_rows, npt_rows = base.rows(token), npt.rows(token)
    rank_in_base = {id_: rank for rank, (_, id_, _) in enumerate(base_rows, 1)}
    rows: list[dict[str, Cell]] = [
        {
            "base": base_glyph,
            "p base": p_base,
            "NPT": npt_glyph,
            "p NPT": p_npt,
            "before": moved(rank, rank_in_base.get(id_), len(base_rows)),
        }
        for rank, ((base_glyph, _, p_base), (npt_glyph, id_, p_npt)) in enumerate(
            zip(base_rows, npt_rows, strict=True), 1
        )
    ][:5]
    return table_html(
        rows,
        label="next token, base and NPT",
        formats={"p base": "{:.3f}".format, "p NPT": "{:.3f}".format},
        bars={"p base": Bar(ROLES["base"]), "p NPT": Bar(ROLES["npt"])},
        code=("base", "NPT"),
        help={
            "base": "What the base model expects next.",
            "NPT": "What the NPT model expects next, run for real with all layers that are on.",
            "before": "Where NPT's choice stands in the base: ↑ it rose, ↓ it fell.",
        },
    )


def _components(inspected: LayerInspection, token: int) -> None:
    """One row a target and component: the gauge-invariant size of each rank-1 part and its scalar; the strongest of many."""
    rows: list[dict[str, Cell]] = [
        {
            "target": target,
            "component": j,
            "v_a·x": float(scalars[token, j]),
            "v_a·h": float(inspected.dots_with_h[target][token, j])
            if target in inspected.dots_with_h
            else None,
            "‖v_a‖‖v_b‖": float(inspected.component_norms[target][token, j]),
            "‖s·v_b‖": float(inspected.component_effects[target][token, j]),
            "‖ΔW‖_F": float(inspected.update_norms[target][token]),
            "change": float(inspected.changes[target][token]),
        }
        for target, scalars in inspected.scalars.items()
        for j in _strongest(inspected.component_effects[target][token])
    ]
    if not rows:
        st.caption("This variant changes a bias, not a weight: it has no scalar and no ‖ΔW‖.")
        return
    table(
        rows,
        label="modulation by component",
        help={
            "v_a·x": "The scalar that multiplies v_b, with x the projection's own input: z for gate and up, m for down.",
            "v_a·h": f"The same v_a on the stream before the norm, as the published documents write it; {NO_V_A_DOT_H}.",
            "‖v_a‖‖v_b‖": "Frobenius norm of the component's rank-1 change.",
            "‖s·v_b‖": "What the component adds to the projection's output.",
            "‖ΔW‖_F": "Of the target's whole change.",
            "change": "‖what is added‖ / ‖the projection's own output‖.",
        },
    )


def _strongest(effects: np.ndarray) -> list[int]:
    """Components that add most to the projection's output, in their own order."""
    return sorted(np.argsort(-effects)[:MOST_COMPONENTS].tolist())


def moved(rank: int, before: int | None, n_known: int) -> str:
    """Rank of an entry before, with an arrow for the way it went."""
    if before is None:
        return f"↑ >{n_known}"
    return "same" if before == rank else f"{'↑' if rank < before else '↓'} {before}"


def _units_help(card: TokenCard) -> str:
    return (
        f"The {len(card.units)} of {card.n_units} gate units that the modulation moves most, before and after. "
        f"About {card.effective_units:.0f} units share the change: (Σδ²)² / Σδ⁴, which is {card.n_units} if all move alike."
    )


def _vocabulary_help(card: TokenCard) -> str:
    return (
        f"What the modulation adds to the residual stream (norm {number(card.output_change_norm)}), through the final "
        f"norm, linearised at {card.linearised_at}, and the unembedding. A first-order reading: layers above are skipped."
    )

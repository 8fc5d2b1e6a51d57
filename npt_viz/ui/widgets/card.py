"""Card of the pinned token: its modulation, the units and next tokens that it moves, and the prediction."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.figures.card import gate_units, vocabulary_changes
from npt_viz.figures.theme import number
from npt_viz.results.inspection import METRICS, NO_V_A_DOT_H, TOKEN_METRICS, LayerInspection
from npt_viz.results.token_card import TokenCard
from npt_viz.ui.cache import opened
from npt_viz.ui.shell.text import code
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.view import View


def pinned_token(view: View) -> None:
    """Draw the card of the pinned token in the chosen layer."""
    piece, run = view.run.pieces[view.token], view.run
    with st.spinner("Running the prompt up to the pinned token"):
        card = opened.token_card(view.asked, view.layer, view.token)
    with st.container(border=True, key="pinned_card"):
        st.markdown(
            f"##### {code(piece.glyph)} &nbsp; token {view.token} of {len(run.pieces):,}, layer {view.layer}\n"
            f":gray[id {piece.id} · {code(piece.raw)} · {piece.kind}"
            f"{' · attention sink' if run.is_sink[view.token] else ''}]"
        )
        _headline(view, card)
        left, middle, right = st.columns([7, 4, 5], gap="medium")
        with left:
            _prediction(view)
            _components(run.layers[view.layer], view.token)
        with middle:
            st.markdown("**Gate units moved most**", help=_units_help(card))
            chart(gate_units(card, view.theme), key="pinned_units")
        with right:
            st.markdown("**Next tokens it speaks for and against**", help=_vocabulary_help(card))
            chart(vocabulary_changes(card, view.theme), key="pinned_vocabulary")


def _headline(view: View, card: TokenCard) -> None:
    """The token's numbers beside the prompt's typical ones."""
    inspected = view.run.layers[view.layer]
    names = ["scalar", "v_a_dot_h", "update_norm", "gate_change", "recovered", "relative_error", "cosine"]
    columns = st.columns(len(names) + (view.run.kl is not None))
    for column, name in zip(columns, names, strict=False):
        _number(column, METRICS[name], inspected.values(name), view)
    if view.run.kl is not None:
        _number(columns[-1], TOKEN_METRICS["kl"], view.run.kl, view)


def _number(place, metric, values: np.ndarray, view: View) -> None:
    kept = values[~view.left_out & np.isfinite(values)]
    median = number(float(np.median(kept))) if len(kept) else "–"
    reference = "" if metric.reference is None else f" Reference: {number(metric.reference)}."
    unit = f" Unit: {metric.unit}." if metric.unit else ""
    place.metric(
        metric.label,
        number(float(values[view.token])),
        delta=f"median {median}",
        delta_color="off",
        delta_arrow="off",
        help=f"{metric.meaning}.{unit}{reference} Below: the median of this prompt.",
    )


def _components(inspected: LayerInspection, token: int) -> None:
    """One row a target and component: the gauge-invariant size of each rank-1 part and its scalar."""
    rows = [
        {
            "target": target,
            "component": j,
            "v_a·x": float(scalars[token, j]),
            # Text: an empty cell of a column of numbers is shown as "None".
            "v_a·h": number(float(inspected.dots_with_h[target][token, j]))
            if target in inspected.dots_with_h
            else "–",
            "‖v_a‖‖v_b‖": float(inspected.component_norms[target][token, j]),
            "‖s·v_b‖": float(inspected.component_effects[target][token, j]),
            "‖ΔW‖_F": float(inspected.update_norms[target][token]),
            "change": float(inspected.changes[target][token]),
        }
        for target, scalars in inspected.scalars.items()
        for j in range(scalars.shape[1])
    ]
    if not rows:
        st.caption("This variant changes a bias, not a weight: it has no scalar and no ‖ΔW‖.")
        return
    st.markdown(
        "**Modulation by component**",
        help="v_a·x: the scalar that multiplies v_b, with x the projection's own input, which is z for gate and up and m for down. "
        "v_a·h: the same v_a on the stream before the norm, as the published documents write it; "
        f"{NO_V_A_DOT_H}. "
        "‖v_a‖‖v_b‖: Frobenius norm of the component's rank-1 "
        "change. ‖s·v_b‖: what the component adds to the projection's output. ‖ΔW‖_F: of the target's whole change. change: ‖what is added‖ / ‖the projection's own output‖.",
    )
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content" if len(rows) <= 6 else 250,
        column_config={
            name: st.column_config.NumberColumn(format="%.3g")
            for name in ("v_a·x", "‖v_a‖‖v_b‖", "‖s·v_b‖", "‖ΔW‖_F", "change")
        },
    )


def _prediction(view: View) -> None:
    """The next token by the base and by the NPT model, with the rank it had."""
    base, npt = view.run.base_top, view.run.npt_top
    if base is None or npt is None:
        return
    st.markdown(
        "**Next token, base → NPT**",
        help="Probabilities of the base model and of the NPT model run for real. Rank before: where the NPT "
        "model's choice stands in the base; ↑ it rose, ↓ it fell.",
    )
    base_rows, npt_rows = base.rows(view.token), npt.rows(view.token)
    rank_in_base = {id_: rank for rank, (_, id_, _) in enumerate(base_rows, 1)}
    rows = [
        {
            "base": base_glyph,
            "p base": p_base,
            "NPT": npt_glyph,
            "p NPT": p_npt,
            "rank before": moved(rank, rank_in_base.get(id_), len(base_rows)),
        }
        for rank, ((base_glyph, _, p_base), (npt_glyph, id_, p_npt)) in enumerate(
            zip(base_rows, npt_rows, strict=True), 1
        )
    ]
    bar = {"format": "%.3f", "min_value": 0.0, "max_value": 1.0, "width": 84}
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=38 + 35 * min(len(rows), 5),
        column_config={
            "base": st.column_config.TextColumn(width=70),
            "p base": st.column_config.ProgressColumn(**bar),
            "NPT": st.column_config.TextColumn(width=70),
            "p NPT": st.column_config.ProgressColumn(**bar),
        },
    )


def moved(rank: int, before: int | None, n_known: int) -> str:
    """Rank of an entry before, with an arrow for the way it went."""
    if before is None:
        return f"↑ beyond {n_known}"
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

"""Directions page: which vectors the map shows."""

import streamlit as st

from npt_viz.results.directions import QUANTITIES
from npt_viz.ui.inspect.directions.state import TARGET
from npt_viz.ui.widgets.target import target_of, valid
from npt_viz.ui.widgets.view import View

ALL = "all, summed"
"""The choice of no single component."""


def vectors(view: View) -> tuple[str, int | None]:
    """Choice of the vectors that the map shows, and of their component; None for the sum."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        valid("directions_quantity", QUANTITIES)
        quantity = st.segmented_control(
            "Vectors on the map",
            QUANTITIES,
            key="directions_quantity",
            persist_state="session",
            required=True,
            help="s·v_b: what is added to the projection's output. v_b: its direction before the scalar. v_a: what reads "
            "the token. Only s·v_b does not depend on how size is divided between v_a and v_b.",
        )
        quantity = quantity or QUANTITIES[0]
        n_components = view.run.layers[view.layer].scalars[target_of(view, TARGET)].shape[1]
        if n_components < 2:
            return quantity, None
        options = [*([ALL] if quantity == QUANTITIES[0] else []), *range(n_components)]
        valid("directions_component", options)
        component = st.selectbox(
            "Component", options, key="directions_component", persist_state="session", width=160
        )
    return quantity, None if component == ALL else component

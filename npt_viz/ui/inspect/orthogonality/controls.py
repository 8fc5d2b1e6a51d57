"""Orthogonality page: which principal axes count as common."""

import streamlit as st

from npt_viz.ui.inspect.orthogonality.state import REFERENCES, TARGET
from npt_viz.ui.widgets.target import target_choice, target_of
from npt_viz.ui.widgets.view import View

MOST_AXES = 60


def choices(view: View) -> None:
    """Choice of the principal axes: vectors, text, number and centring."""
    with st.container(
        key="orthogonality_choices", horizontal=True, vertical_alignment="bottom", gap="medium"
    ):
        target_choice(view, TARGET)
        down = target_of(view, TARGET) == "down"
        st.segmented_control(
            "Directions of",
            ("input",) if down else ("h", "input"),
            key="orthogonality_of",
            format_func=lambda name: "h" if name == "h" else "m" if down else "z",
            required=True,
            persist_state="session",
            help="h: the residual stream entering the layer. z, or m for the down target: what v_a is multiplied with.",
        )
        st.segmented_control(
            "Axes from",
            REFERENCES,
            key="orthogonality_from",
            required=True,
            persist_state="session",
            help="Tokens whose principal axes count as common. Bundled: texts that no demo checkpoint was trained on.",
        )
        st.slider("Top axes, q", 1, MOST_AXES, key="orthogonality_top", persist_state="session", width=180)
        st.toggle(
            "Centred",
            key="orthogonality_centred",
            persist_state="session",
            help="Whether the mean is subtracted before the axes are found. If not, the first axis is mostly the mean.",
        )
    if st.session_state["orthogonality_from"] == "my text":
        st.text_area("Reference text", key="orthogonality_text", persist_state="session", height=120)

"""Transplant page: the receiving prompt, its token, the operation and its strength."""

import streamlit as st

from npt_viz.figures.theme import colour_scale
from npt_viz.ui.edit.transplant.state import MOVED, receive_at, requested, transplanted
from npt_viz.ui.widgets.strip import first_choices, token_strip
from npt_viz.ui.widgets.view import View

OPERATIONS = {
    "replace": "replace: the donor's ΔW in place of the token's own",
    "blend": "blend: (1 − strength) · own + strength · donor's",
    "add": "add: own + strength · donor's",
    "scale": "scale: strength · own, without the donor",
}


def receiver(view: View) -> None:
    """Receiving prompt, the strip that chooses its token, operation and strength."""
    st.markdown(
        "**The receiving prompt**", help="The strip above is the donor: its pinned token gives its ΔW."
    )
    st.text_input(
        "Prompt that receives", key="transplant_prompt", persist_state="session", label_visibility="collapsed"
    )
    result = transplanted(requested(view))
    scale = colour_scale(MOVED, result.transplanted.kl, view.theme)
    token_strip(
        result.pieces,
        result.transplanted.kl,
        scale,
        key="transplant_strip",
        pinned=result.token,
        on_pin=receive_at,
        columns={
            MOVED.label: result.transplanted.kl,
            "next, NPT": first_choices(result.npt.top),
            "next, transplanted": first_choices(result.transplanted.top),
        },
    )
    place = st.columns([4, 1.4, 2], vertical_alignment="bottom")
    place[0].selectbox(
        "Operation",
        list(OPERATIONS),
        key="transplant_operation",
        format_func=OPERATIONS.__getitem__,
        persist_state="session",
    )
    place[1].number_input(
        "Strength", key="transplant_strength", step=0.25, format="%g", persist_state="session"
    )
    place[2].toggle(
        "In all layers",
        key="transplant_all_layers",
        persist_state="session",
        help=f"In every layer that runs as NPT ({', '.join(map(str, view.layers))}), or in {view.layer} alone.",
    )

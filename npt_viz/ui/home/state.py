"""Home page: the parity checks, run without being asked where that is cheap."""

import streamlit as st

from npt_viz.results.parity import Parity
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection

CHEAP_BYTES = 2e9
"""Models up to this size have their parity checked without being asked."""


def parity_checks(selection: Selection) -> Parity | None:
    """Parity checks: made at once where that is cheap, else None until they are asked for."""
    is_cheap = opened.opened(selection)[0].memory_bytes() <= CHEAP_BYTES
    return (
        opened.parity_of(selection)
        if is_cheap or st.session_state.get("_parity_asked") == selection
        else None
    )


def ask_for_parity(selection: Selection) -> None:
    """Ask for the checks of a large model."""
    st.session_state["_parity_asked"] = selection

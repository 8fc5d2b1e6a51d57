"""Does the modulated MLP replace attention?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.inspect.reconstruction import panels, panels_downstream

ui.require_app()

SECTIONS = {
    "Tokens": panels.tokens,
    "Limits": panels.limits,
    "Ablations": panels.ablations,
    "Downstream": panels_downstream.downstream,
    "Continuations": panels_downstream.continuations,
}


def body(view: ui.View) -> None:
    panels.shares(view)
    # Not tabs: what is not looked at is not computed.
    section = st.segmented_control(
        "Details", list(SECTIONS), key="reconstruction_section", default="Tokens", required=True
    )
    SECTIONS[section](view)
    ui.downloads(view, lambda: panels.frame(view), key="reconstruction")


ui.inspect_page("Reconstruction", "Does the modulated MLP replace attention?", panels.answer, body)

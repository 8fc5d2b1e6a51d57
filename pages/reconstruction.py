"""Does the modulated MLP replace attention?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.inspect.reconstruction import panels, panels_downstream

ui.require_app()

view = ui.inspect_page("Reconstruction", "Does the modulated MLP replace attention?", panels.answer)
panels.shares(view)

SECTIONS = {
    "Tokens": panels.tokens,
    "Limits": panels.limits,
    "Ablations": panels.ablations,
    "Downstream": panels_downstream.downstream,
    "Continuations": panels_downstream.continuations,
}
# Not tabs: what is not looked at is not computed.
section = st.segmented_control(
    "Details", list(SECTIONS), key="reconstruction_section", default="Tokens", required=True
)
SECTIONS[section](view)
ui.downloads(view, lambda: panels.frame(view), key="reconstruction")

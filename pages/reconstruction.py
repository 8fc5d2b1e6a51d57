"""Does the modulated MLP replace attention?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.inspect import downstream_panels, reconstruction, reconstruction_panels

ui.require_app()

view = ui.inspect_page("Reconstruction", "Does the modulated MLP replace attention?", reconstruction.answer)
reconstruction_panels.shares(view)

SECTIONS = {
    "Tokens": reconstruction_panels.tokens,
    "Limits": reconstruction_panels.limits,
    "Ablations": reconstruction_panels.ablations,
    "Downstream": downstream_panels.downstream,
    "Continuations": downstream_panels.continuations,
}
# Not tabs: what is not looked at is not computed.
section = st.segmented_control(
    "Details", list(SECTIONS), key="reconstruction_section", default="Tokens", required=True
)
SECTIONS[section](view)
ui.downloads(view, lambda: reconstruction.frame(view), key="reconstruction")

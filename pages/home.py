"""What is open, and can I trust it?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.home import controls, panels
from npt_viz.ui.widgets.findings import findings

ui.require_app()

ui.page_title("npt_viz", "What is open, and can I trust it?")
report, selection = ui.loaded(), ui.selection()
panels.identity(selection, report)

# A checkpoint that cannot run is reported all the same.
with ui.guarded():
    view = ui.inspected(report, ui.running_layers(report))
    st.markdown(ui.answers.tokens(view))
    ui.strip(view)
    st.page_link(
        "pages/tokens.py", label="What the modulation does at each token", icon=":material/arrow_forward:"
    )

st.markdown("#### Health")
with ui.guarded():
    findings(selection)

st.markdown("#### Checkpoint")
panels.load_table(report)
panels.load_details(report)
controls.stage_choice(report)
controls.semantics_choice(report)
panels.parity_table(selection)

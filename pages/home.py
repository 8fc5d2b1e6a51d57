"""What is open, and can I trust it?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.findings import findings

ui.require_app()

ui.page_title("npt_viz", "What is open, and can I trust it?")
wanted, run, _ = ui.inspected()
report = ui.opened.load_report(wanted.source)
ui.trust.identity(wanted.source, report)

view = ui.view_of(wanted, run)
st.markdown(ui.answers.tokens(view))
ui.strip(view)
st.page_link(
    "pages/tokens.py", label="What the modulation does at each token", icon=":material/arrow_forward:"
)

st.markdown("#### Health")
findings(wanted.source)

st.markdown("#### Checkpoint")
ui.trust.load_table(report)
ui.trust.load_details(wanted.source, report)
ui.trust.semantics_choice(report)
ui.trust.parity_table(wanted.source)

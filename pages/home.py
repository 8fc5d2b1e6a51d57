"""What is open, and can I trust it?"""

import streamlit as st

from npt_viz import ui
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.home import controls, panels
from npt_viz.ui.widgets.findings import findings

ui.require_app()


def above(report: LoadReport) -> None:
    # A checkpoint that cannot run is reported all the same.
    panels.identity(ui.selection(), report)


def body(view: ui.View) -> None:
    st.page_link(
        "pages/tokens.py", label="What the modulation does at each token", icon=":material/arrow_forward:"
    )


def below(report: LoadReport) -> None:
    st.markdown("#### Health")
    with ui.guarded():
        findings(ui.selection())
    st.markdown("#### Checkpoint")
    panels.load_table(report)
    panels.load_details(report)
    controls.stage_choice(report)
    controls.semantics_choice(report)
    panels.parity_table(ui.selection())


ui.inspect_page(
    "npt_viz", "What is open, and can I trust it?", ui.answers.tokens, body, above=above, below=below
)

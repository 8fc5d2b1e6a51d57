"""What is open, and can I trust it?"""

import streamlit as st

from npt_viz import ui
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.home import controls, panels
from npt_viz.ui.widgets import tour
from npt_viz.ui.widgets.findings import best_known, findings

ui.require_app()
trust: list[panels.Trust] = []


def above(report: LoadReport) -> None:
    panels.stated_fault(report)
    # A checkpoint that cannot run is reported all the same.
    trust.append(panels.Trust(ui.selection(), report))


def body(view: ui.View) -> None:
    """What a pin does not change stands below."""


def below(report: LoadReport) -> None:
    with ui.guarded():
        panels.what_next(best_known(ui.selection()))
    tour.offer()
    trust[0].fill()
    trust[0].fill(panels.parity_tile(ui.selection()))
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
    "npt_viz",
    "What is open, and can I trust it?",
    ui.answers.tokens,
    body,
    above=above,
    below=below,
    charts=False,
)

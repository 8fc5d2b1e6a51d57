"""What holds over a corpus?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.scan.controls import chosen_scan, settings, start_button, stop_button
from npt_viz.ui.scan.job import scan_slot
from npt_viz.ui.scan.panels import results

ui.require_app()
ui.page_title("Scan", "What holds over a corpus?")
ui.source_bar(asks=False)

source, slot = ui.selection(), scan_slot()
saved, start, stop = st.columns([5, 1.1, 1.1], vertical_alignment="bottom")
with saved:
    shown = chosen_scan(slot)
controls = st.container()
# What is saved needs no model: it is there before one is open.
results(slot, shown)
ready(source)
with controls.expander("Set up a scan", icon=":material/tune:", key="scan_setup", expanded=shown is None):
    plan = settings(source, slot)
with start:
    start_button(slot, plan)
with stop:
    stop_button(slot)

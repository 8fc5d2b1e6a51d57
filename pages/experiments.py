"""Which loss helps?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.experiments.controls import chosen_experiment, settings, start_button, stop_button
from npt_viz.ui.experiments.job import experiment_slot
from npt_viz.ui.experiments.panels import results

ui.require_app()
ui.page_title("Experiments", "Which loss helps?")
ui.source_bar(asks=False)

source, slot = ui.selection(), experiment_slot()
saved, start, stop = st.columns([5, 1.1, 1.1], vertical_alignment="bottom")
with saved:
    shown = chosen_experiment(slot)
controls = st.container()
# What is saved needs no model: it is there before one is open.
results(slot, shown)
ready(source, with_checkpoint=bool(source.checkpoint))
with controls.expander("Set up an experiment", icon=":material/tune:", key="experiment_setup"):
    plan = settings(source, slot, st.session_state["prompt"])
with start:
    start_button(slot, plan)
with stop:
    stop_button(slot)

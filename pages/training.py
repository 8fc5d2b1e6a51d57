"""What does this loss do to this layer?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.train.controls import settings
from npt_viz.ui.train.job import training_slot
from npt_viz.ui.train.panels import buttons, live
from npt_viz.ui.train.panels_result import result, saved_training

ui.require_app()
ui.page_title("Training", "What does this loss do to this layer?")
ui.source_bar(asks=False)

source, slot = ui.selection(), training_slot()
ready(source, with_checkpoint=bool(source.checkpoint))

if slot.is_active:
    # What runs has the whole width; the set-up is folded.
    controls, shown = st.container(), st.container()
    controls = controls.expander("Set-up", icon=":material/tune:")
else:
    controls, shown = st.columns([5, 6], gap="medium")
with shown:
    command = st.container()
    live(slot)
    result(slot)
    saved_training(source, slot)
with controls:
    plan = settings(source, slot)
with command:
    buttons(source, slot, plan)

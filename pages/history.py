"""What did I look at, and what did it say?"""

import streamlit as st

from npt_viz import ui
from npt_viz.ui.history import controls, panels, state

ui.require_app()
ui.page_title("History", "What did I look at, and what did it say?")

controls.search()
found = state.found()
shown = state.shown(found)
left, right = st.columns([5, 6], gap="medium")
with left:
    controls.entries(found, shown)
with right:
    if shown is None:
        panels.nothing()
    else:
        panels.one(shown)

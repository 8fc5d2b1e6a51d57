"""What does each number mean, and what is good?"""

import streamlit as st

from npt_viz import ui
from npt_viz.results.glossary import GLOSSARY
from npt_viz.ui.widgets.tables import table

ui.require_app()

ui.page_title("Glossary", "What does each number mean, and what is good?")
with st.container(horizontal=True, vertical_alignment="center"):
    group = st.segmented_control(
        "Group", list(GLOSSARY), default="Tokens", key="glossary_group", label_visibility="collapsed"
    )
    found = st.text_input(
        "Find", key="glossary_find", placeholder="Find a word", label_visibility="collapsed", width=200
    )

words = found.casefold().split()
rows = [
    {
        "term": term,
        "meaning": each.meaning,
        "formula or unit": each.formula,
        "good": each.good,
        "source": each.source,
    }
    for name, entries in GLOSSARY.items()
    for term, each in entries.items()
    if (words or name == group or group is None)
    and all(word in " ".join((term, *each)).casefold() for word in words)
]
with st.container(key="main_figure", height=580, border=False):
    table(rows, label="glossary")
    if not rows:
        st.info("No entry has these words. Try fewer, or empty the field and choose a group.")

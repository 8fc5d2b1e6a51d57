"""Sheet: what a page has said and drawn, so that it can be carried away; filled while it is drawn."""

from dataclasses import dataclass, field

import plotly.graph_objects as go
import streamlit as st

from npt_viz.ui.shell.text import unmarked


@dataclass
class Sheet:
    """One page of one session."""

    title: str
    question: str
    sentence: str = ""
    figures: dict[str, go.Figure] = field(default_factory=dict)
    """Key on the page -> figure."""


def begin(title: str, question: str) -> None:
    """A page begins: nothing of another one is on its sheet."""
    st.session_state["_sheet"] = Sheet(title, question)


def sheet() -> Sheet:
    """Sheet of the page that is being drawn."""
    if "_sheet" not in st.session_state:
        begin("npt_viz", "")
    return st.session_state["_sheet"]


def say(sentence: str) -> None:
    """Draw the page's answer, which is safe Markdown."""
    st.markdown(sentence)
    sheet().sentence = unmarked(sentence)

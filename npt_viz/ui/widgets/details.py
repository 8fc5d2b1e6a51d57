"""Details of a page behind a choice: what is not looked at is neither computed nor sent."""

from collections.abc import Callable, Mapping

import streamlit as st

from npt_viz.ui.shell import keeping


def details(sections: Mapping[str, Callable[[], None]], *, key: str) -> None:
    """Choice among sections, by their names, and the chosen one; at first none is open, and a second click closes it."""
    keeping.keep(key)
    keeping.settle(key)
    if st.session_state[key] not in sections:
        st.session_state[key] = None
    chosen = st.segmented_control("Details", list(sections), key=key, persist_state="session")
    if chosen:
        sections[chosen]()

"""Frame of every page: navigation, errors as sentences; memory, folded, at the foot of the sidebar."""

import streamlit as st

from npt_viz.ui.cache.loading import is_open
from npt_viz.ui.cache.memory import memory, memory_bar, release_button
from npt_viz.ui.cache.owner import attend, show
from npt_viz.ui.shell import keeping, state
from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.lease import job_banner
from npt_viz.ui.shell.nav import HOME, configure_page, framed, pages
from npt_viz.ui.shell.text import plain


def run_app() -> None:
    """Run the app once: shared state, navigation, the page, memory; keep what was chosen, however the run ends."""
    configure_page()
    for sentence in attend().sayings():
        st.toast(plain(sentence), icon=":material/info:", duration="infinite")
    with keeping.remembered():
        state.begin()
        show(st.session_state["checkpoint"])
        _run()


def _run() -> None:
    page = st.navigation(pages(), expanded=True)
    foot = st.sidebar.container(key="sidebar_foot")
    st.session_state["_page"] = page.url_path or HOME
    with guarded(), framed():
        job_banner(st.session_state["_page"])
        page.run()
    with foot, guarded():
        _memory()


def _memory() -> None:
    """Memory bar and release button, drawn while they are looked at."""
    if not is_open(selection()):
        return
    folded = st.expander("Memory", icon=":material/memory:", key="sidebar_memory", on_change="rerun")
    if folded.open:
        with folded:
            memory_bar(memory(selection()))
            release_button(selection())

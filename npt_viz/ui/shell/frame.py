"""Frame of every page: style, sidebar, navigation, errors as sentences, memory bar."""

from pathlib import Path

import streamlit as st

from npt_viz.ui.cache.loading import is_open
from npt_viz.ui.cache.memory import memory, memory_bar, release_button
from npt_viz.ui.cache.owner import attend, introduce, show
from npt_viz.ui.shell import keeping, state
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.lease import job_banner
from npt_viz.ui.shell.ledger_box import ledger_in_sidebar
from npt_viz.ui.shell.nav import HOME, configure_page, framed, pages
from npt_viz.ui.shell.sidebar import selection, share, sidebar
from npt_viz.ui.shell.text import plain

_STYLE = (Path(__file__).parent / "app.css").read_text(encoding="utf-8")


def run_app() -> None:
    """Run the app once: shared state, sidebar, the page, memory bar; keep what was chosen, however the run ends."""
    configure_page()
    st.html(f"<style>{_STYLE}</style>")
    for sentence in attend().sayings():
        st.toast(plain(sentence), icon=":material/info:", duration="infinite")
    try:
        state.begin()
        show(st.session_state["checkpoint"])
        _run()
    finally:
        keeping.remember()


def _run() -> None:
    page = st.navigation(pages(), expanded=True)
    with guarded():
        sidebar()
        share()
        ledger_in_sidebar(selection())
    footer = st.sidebar.container(key="sidebar_memory")
    with st.sidebar.container(key="npt_browser_box"):  # app.css hides it
        introduce()
    with guarded(), framed():
        job_banner(page.url_path or HOME)
        page.run()
    with footer, guarded():
        if is_open(selection()):
            memory_bar(memory(selection()))
            release_button(selection())

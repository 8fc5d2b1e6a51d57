"""Pages and their groups, and the guard that every page file begins with."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import streamlit as st

from npt_viz.places import ROOT

_PAGES = {
    "": [("home", "Home", "home")],
    "Inspect": [
        ("tokens", "Tokens", "token"),
        ("reconstruction", "Reconstruction", "difference"),
        ("directions", "Directions", "explore"),
        ("orthogonality", "Orthogonality", "square_foot"),
        ("attribution", "Attribution", "my_location"),
    ],
    "Train": [
        ("training", "Training", "play_circle"),
        ("experiments", "Experiments", "science"),
        ("runs", "Runs", "show_chart"),
    ],
    "Edit": [
        ("permanent_update", "Permanent update", "edit_note"),
        ("transplant", "Transplant", "move_down"),
    ],
    "Compare": [
        ("compare", "Compare", "compare"),
        ("scan", "Scan", "query_stats"),
        ("history", "History", "history"),
    ],
    "Help": [("glossary", "Glossary", "menu_book")],
}
"""Group -> (file in pages/ and path in the URL, title, icon)."""

HOME = "home"
"""The page without a path."""

_framed = ContextVar("framed", default=False)
"""Whether app.py is running this page: per run, not per session, and to be reset where Streamlit has stopped a run."""

_REROUTED = "_npt_rerouted"


def configure_page() -> None:
    """Set title, icon and width: the first call of a run."""
    # A file of ours: Streamlit fetches named icons, also those of pages, from a font server for the browser's tab.
    st.set_page_config(
        page_title="npt_viz",
        page_icon=Path(__file__).parent / "icon.svg",
        layout="wide",
        initial_sidebar_state=210,
    )


def page_file(name: str) -> Path:
    """File of a page, whether or not it exists."""
    # Absolute: also right where a page file is the main script.
    return ROOT / "pages" / f"{name}.py"


def pages() -> dict[str, list]:
    """Pages by group, as st.navigation takes them."""
    return {
        group: [
            st.Page(
                page_file(name),
                title=title,
                icon=f":material/{icon}:",
                url_path=name,
                default=name == HOME,
            )
            for name, title, icon in entries
        ]
        for group, entries in _PAGES.items()
    }


@contextmanager
def framed() -> Iterator[None]:
    """Mark the block as run by app.py."""
    st.session_state[_REROUTED] = False
    token = _framed.set(True)
    try:
        yield
    finally:
        _framed.reset(token)


def require_app() -> None:
    """Make sure that app.py frames this page: the first line of every file in pages/.

    A server that has not run st.navigation yet takes pages/ for its own kind of multipage app, and the first
    visitor of a deep link would see the page file alone. Calling st.navigation switches the whole server over;
    the rerun then goes through app.py to the same page.
    """
    if _framed.get():
        return
    if st.session_state.get(_REROUTED):
        st.info("This is one page of npt_viz: start the app with `npt-viz app`.")
        st.stop()
    st.session_state[_REROUTED] = True
    configure_page()
    st.navigation(pages())
    st.rerun()

"""Figures on a page, and the clicks on them that pin."""

import plotly.graph_objects as go
import streamlit as st

from npt_viz.figures.maps import WINDOW, window
from npt_viz.ui.widgets.sheet import sheet
from npt_viz.ui.widgets.view import View

CONFIG = {"displaylogo": False, "modeBarButtonsToAdd": ["toImage"]}


def chart(figure: go.Figure, *, key: str, on_click=None) -> None:
    """Draw a figure and note it on the page's sheet; `on_click(customdata)` is called with what lies under a clicked point."""
    sheet().figures[key] = figure
    width = "content" if figure.layout.width else "stretch"
    if on_click is None:
        st.plotly_chart(figure, key=key, width=width, config=CONFIG)
        return

    def clicked() -> None:
        points = st.session_state[key]["selection"]["points"]
        if points:
            data = points[0]["customdata"]
            # A row of customdata comes back as {"0": …, "1": …}.
            on_click([data[i] for i in sorted(data, key=int)] if isinstance(data, dict) else data)

    st.plotly_chart(figure, key=key, width=width, config=CONFIG, on_select=clicked, selection_mode="points")


def shown(view: View) -> range:
    """Tokens that figures draw: the block around the pin."""
    return window(len(view.run.pieces), view.token)


def window_note(view: View) -> None:
    """Note where a prompt is too long to be drawn at once."""
    n_tokens, drawn = len(view.run.pieces), shown(view)
    if n_tokens > WINDOW:
        st.caption(
            f"Drawn: tokens {drawn.start} to {drawn.stop - 1} of {n_tokens:,}, the block around the pinned token; "
            "pin another token in the strip to move there."
        )

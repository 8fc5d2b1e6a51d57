"""Figures on a page, and the clicks on them that pin."""

import plotly.graph_objects as go
import streamlit as st

from npt_viz.figures.maps import WINDOW, layer_by_token, window
from npt_viz.figures.profiles import token_profile
from npt_viz.results.inspection import TOKEN_METRICS
from npt_viz.ui.shell import state
from npt_viz.ui.widgets.view import View

CONFIG = {"displaylogo": False}


def chart(figure: go.Figure, *, key: str, on_click=None) -> None:
    """Draw a figure; `on_click(customdata)` is called with what lies under a clicked point."""
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


def layer_token_map(view: View, *, key: str) -> None:
    """Map of layers and tokens in the chosen colour; a click pins both."""
    of_model = view.metric_name in TOKEN_METRICS
    figure = layer_by_token(
        view.values,
        layers=[view.layer] if of_model else view.layers,
        names=["NPT model"] if of_model else None,
        tokens=view.run.tokens,
        scale=view.scale,
        left_out=view.left_out,
        pin=(view.layer, view.token),
        shown=shown(view),
    )
    chart(figure, key=key, on_click=lambda cell: state.pin(int(cell[1]), int(cell[0])))


def profile(view: View, *, key: str) -> None:
    """Chosen metric along the tokens of one layer, to stand above the map; a click pins the token."""
    figure = token_profile(
        view.layer_values,
        tokens=view.run.tokens,
        scale=view.scale,
        left_out=view.left_out,
        pin=view.token,
        shown=shown(view),
        labelled=False,
    )
    chart(figure, key=key, on_click=lambda bar: state.pin(int(bar[0])))


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

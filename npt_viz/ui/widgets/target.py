"""Choice of the projection whose weight change is looked at."""

from collections.abc import Sequence

import streamlit as st

from npt_viz.ui.widgets.view import View


def target_of(view: View, key: str) -> str:
    """The chosen target of the layer, or its first one; before its widget is drawn, too."""
    return str(valid(key, view.run.layers[view.layer].targets))


def valid(key: str, options: Sequence) -> object:
    """What a widget holds, set to the first option where another layer or target no longer has it."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return st.session_state[key]


def target_choice(view: View, key: str) -> None:
    """Which projection is looked at."""
    st.segmented_control(
        "Target",
        view.run.layers[view.layer].targets,
        key=key,
        required=True,
        persist_state="session",
        help="The projection whose weight change is looked at: W_g, W_u or W_d of this layer's MLP.",
    )


def sinks_left_out(view: View) -> str:
    """As part of a sentence; empty where none is."""
    n_sinks = int(view.left_out.sum())
    return f", {n_sinks} sink{'s' * (n_sinks != 1)} left out" if n_sinks else ""

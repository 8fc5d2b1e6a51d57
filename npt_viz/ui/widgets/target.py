"""Choice of the projection whose weight change is looked at."""

from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from npt_viz.ui.widgets.view import View

Option = TypeVar("Option")


def target_of(view: View, key: str) -> str:
    """Chosen target of the layer, or its first one; also before the widget is drawn."""
    return valid(key, view.run.layers[view.layer].targets)


def valid(key: str, options: Sequence[Option]) -> Option:
    """Value of a widget, set to the first option where this layer or target does not have it."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return st.session_state[key]


def target_choice(view: View, key: str, *, is_labelled: bool = True) -> None:
    """Choice of the target; nothing where the layer has one."""
    if len(view.run.layers[view.layer].targets) < 2:
        return
    st.segmented_control(
        "Target",
        view.run.layers[view.layer].targets,
        key=key,
        required=True,
        persist_state="session",
        label_visibility="visible" if is_labelled else "collapsed",
        help="The projection whose weight change is looked at: W_g, W_u or W_d of this layer's MLP.",
    )

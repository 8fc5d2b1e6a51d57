"""Directions page: cached comparisons of the update's directions over tokens."""

import streamlit as st

from npt_viz.results.directions import (
    DirectionMap,
    Directions,
    DirectionVocabulary,
    Unavailable,
)
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import waiting
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.target import target_of
from npt_viz.ui.widgets.view import View

TARGET = "directions_target"
"""Key of the widget that chooses the target."""


@st.cache_data(max_entries=64, show_spinner=False)
def directions_of(asked: Asked, layer: int, target: str, keep_sinks: bool) -> Directions | Unavailable:
    """Comparison of one target's directions over the prompt, or the sentence that says why there is none."""
    from npt_viz.analysis.directions import directions

    model, checkpoint = opened.opened(asked.selection)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: directions(
            model,
            checkpoint,
            run,
            layer,
            target=target,
            keep_sinks=keep_sinks,
            kept_pass=opened.kept_pass(asked),
        )
    )


@st.cache_data(max_entries=64, show_spinner="Drawing the map")
def map_of(
    asked: Asked, layer: int, target: str, keep_sinks: bool, quantity: str, component: int | None
) -> DirectionMap | Unavailable:
    """Map of one vector a token on two axes, or the sentence that says why there is none."""
    from npt_viz.analysis.direction_map import direction_map

    model, checkpoint = opened.opened(asked.selection)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: direction_map(
            model,
            checkpoint,
            run,
            layer,
            target=target,
            quantity=quantity,
            component=component,
            keep_sinks=keep_sinks,
            kept_pass=opened.kept_pass(asked),
        )
    )


@st.cache_data(max_entries=256, show_spinner="Reading the direction through the unembedding")
def vocabulary_of(
    asked: Asked, layer: int, target: str, keep_sinks: bool, token: int, direction: str
) -> DirectionVocabulary | Unavailable:
    """Next tokens that one direction raises and lowers, or the sentence that says why there are none."""
    from npt_viz.analysis.direction_vocabulary import direction_vocabulary

    model, checkpoint = opened.opened(asked.selection)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: direction_vocabulary(
            model,
            checkpoint,
            run,
            layer,
            token,
            target=target,
            direction=direction,
            keep_sinks=keep_sinks,
            kept_pass=opened.kept_pass(asked),
        )
    )


def directions_of_view(view: View) -> Directions | Unavailable:
    """Comparison of the directions for the chosen target, without the map."""
    asked, n_tokens = view.asked, len(view.run.pieces)
    given = asked, view.layer, target_of(view, TARGET), view.with_sinks
    with waiting(asked.selection, "Comparing the directions of all tokens", 1, n_tokens, of=given):
        return directions_of(*given)

"""The inspected prompt as a token view: coloured, pinned, and edited in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from npt_viz.figures.theme import ColourScale, Theme, colour_scale
from npt_viz.results.glossary import explained
from npt_viz.results.inspection import METRICS, TOKEN_METRICS
from npt_viz.ui.shell import state
from npt_viz.ui.shell.examples import EXAMPLES
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets.token_view import (
    Part,
    PromptBox,
    first_choices,
    pin_signal,
    token_view,
    token_view_data,
)
from npt_viz.ui.widgets.view import ALL_METRICS, View

HEIGHTS: dict[Part, int] = {"strip": 104, "profile": 76, "map": 190}
"""Pixels of each part: what is left of the first screen belongs to the page's main figure."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """What a page colours its prompt by in place of a metric of the inspection."""

    values: np.ndarray
    """(token,); NaN for tokens without a colour"""
    scale: ColourScale
    columns: Mapping[str, np.ndarray]
    """Rows of the tooltip: label -> (token,)"""


def prompt_view(
    view: View | None,
    *,
    parts: Sequence[Part] = ("strip",),
    colours: Colours | None = None,
    theme: Theme = "light",
) -> None:
    """Draw the prompt; a click pins a token, and a layer on the map, for every page.

    view: None where the prompt could not be inspected; it can then be edited all the same.
    """
    if view is None:
        data = empty_view(theme)
    else:
        data = view_data(view, parts) if colours is None else coloured_data(view, colours)
    token_view(data, key="prompt_view", on_pin=state.pin, on_ask=ask)
    if view is not None:
        pin_signal(view.token, view.layer, key="prompt_pin")


def colour_choice() -> None:
    """Choice of the metric that gives the colours, and whether attention sinks count."""
    st.selectbox(
        "Colour",
        list(ALL_METRICS),
        key="metric",
        format_func=lambda name: ALL_METRICS[name].label,
        label_visibility="collapsed",
        width=190,
        help=f"{plain(explained(ALL_METRICS[st.session_state['metric']].label))}  \nThe tooltip of a token has all of them.",
    )
    st.toggle(
        "Count sinks",
        key="sinks",
        width="content",
        help="Let attention sinks count in colours and medians. Their residual norm dwarfs the other tokens'.",
    )


def view_data(view: View, parts: Sequence[Part], *, is_editable: bool = True) -> dict:
    """What the browser draws of a view; the prompt is editable in one view of a page."""
    of_model = view.metric_name in TOKEN_METRICS
    return token_view_data(
        view.run.pieces,
        view.values,
        view.scale,
        layers=[view.layer] if of_model else view.layers,
        layer=view.layer,
        names=["NPT model"] if of_model else None,
        left_out=view.left_out,
        columns=tooltip(view),
        parts=parts,
        heights=HEIGHTS,
        prompt=box() if is_editable else None,
    )


def coloured_data(view: View, colours: Colours) -> dict:
    """What the browser draws of a view in a page's own colours: the strip."""
    return token_view_data(
        view.run.pieces,
        colours.values[None],
        colours.scale,
        layers=[view.layer],
        layer=view.layer,
        names=[colours.scale.metric.label],
        columns=colours.columns,
        parts=("strip",),
        heights=HEIGHTS,
        prompt=box(),
    )


def empty_view(theme: Theme) -> dict:
    """A view without tokens: the box in which the prompt is edited."""
    scale = colour_scale(METRICS["relative_error"], np.zeros((1, 0)), theme)
    return token_view_data(
        (), np.zeros((1, 0)), scale, layers=[0], layer=0, parts=("strip",), heights=HEIGHTS, prompt=box()
    )


def tooltip(view: View) -> dict[str, np.ndarray | list[str]]:
    """Label -> (token,) what the tooltip of a token lists."""
    run = view.run
    columns: dict[str, np.ndarray | list[str]] = {
        m.label: run.layers[view.layer].values(name) for name, m in METRICS.items()
    }
    if run.base_top is not None and run.npt_top is not None:
        columns |= {m.label: getattr(run, name) for name, m in TOKEN_METRICS.items()}
        columns |= {"next, base": first_choices(run.base_top), "next, NPT": first_choices(run.npt_top)}
    return columns


def box() -> PromptBox:
    """What the prompt of the head can be edited to."""
    session = st.session_state
    return PromptBox(text=session["prompt"], chat=session["chat"], bos=session["bos"], examples=EXAMPLES)


def ask(prompt: str, chat: bool, bos: str) -> None:
    """Ask about another prompt, on the whole page."""
    state.ask(prompt, chat=chat, bos=bos)
    st.session_state["_draw_all"] = True

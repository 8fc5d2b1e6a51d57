"""Transplant page: the receiving prompt, its token, the operation and its strength."""

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st

from npt_viz.editing.cases import BUILT_IN
from npt_viz.errors import NptVizError
from npt_viz.figures.theme import colour_scale
from npt_viz.results.inspection import Token
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache import opened
from npt_viz.ui.edit.transplant.state import (
    MOVED,
    SHOWN_STRENGTH,
    keep,
    receive,
    receive_at,
    requested,
    transplanted,
)
from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.widgets.prompt import HEIGHTS
from npt_viz.ui.widgets.token_view import PromptBox, first_choices, pin_signal, token_view, token_view_data
from npt_viz.ui.widgets.view import View

OPERATIONS = {
    "replace": "replace: the donor's ΔW in place of its own",
    "blend": "blend: (1 − strength) · own + strength · donor's",
    "add": "add: own + strength · donor's",
    "scale": "scale: strength · own, without the donor",
}

CHANNEL = "receiver"
"""Pins of the receiving prompt."""

SHOWN_PAIR = next(case for case in BUILT_IN if "Germany" in case.prompt)
"""A fact: its source gives, the prompt without the context receives."""


def sides(report: LoadReport) -> None:
    """Say which prompt is which."""
    donor, receiver = st.columns([11, 9], gap="medium")
    donor.markdown("**Donor**: the pinned token gives its ΔW")
    receiver.markdown("**Receiver**: the pinned token uses it")


def receiver(view: View) -> None:
    """The receiving prompt, edited in place; its strip chooses the token."""
    try:
        result = transplanted(requested(view))
    except NptVizError:
        _strip((), np.zeros(0), {}, view)  # The prompt that cannot be used can be edited all the same.
        raise
    columns: dict[str, np.ndarray | list[str]] = {
        MOVED.label: result.transplanted.kl,
        "next, NPT": first_choices(result.npt.top),
        "next, transplanted": first_choices(result.transplanted.top),
    }
    _strip(result.pieces, result.transplanted.kl, columns, view)
    pin_signal(result.token, None, key="transplant_pin", channel=CHANNEL)


def _strip(
    pieces: Sequence[Token], values: np.ndarray, columns: Mapping[str, np.ndarray | list[str]], view: View
) -> None:
    data = token_view_data(
        pieces,
        values[None],
        colour_scale(MOVED, values, view.theme),
        layers=[0],
        layer=0,
        names=["NPT model"],
        columns=columns,
        parts=("strip",),
        heights=HEIGHTS,
        prompt=PromptBox(
            text=st.session_state["transplant_prompt"],
            examples={case.prompt: case.prompt for case in BUILT_IN},
        ),
        channel=CHANNEL,
    )
    token_view(
        data,
        key="transplant_view",
        on_pin=lambda token, layer: receive_at(token),
        on_ask=lambda text, chat, bos: receive(text),
    )


def operation(view: View) -> None:
    """What is done with the donor's ΔW, in a line; keeping the result; an example."""
    place = st.columns([3.4, 1.3, 1.4, 1.5, 1.5], vertical_alignment="bottom")
    place[0].selectbox(
        "Operation",
        list(OPERATIONS),
        key="transplant_operation",
        format_func=OPERATIONS.__getitem__,
        persist_state="session",
    )
    place[1].number_input(
        "Strength", key="transplant_strength", step=0.25, format="%g", persist_state="session"
    )
    place[2].toggle(
        "In all layers",
        key="transplant_all_layers",
        persist_state="session",
        help=f"In every layer that runs as NPT ({', '.join(map(str, view.layers))}), or in {view.layer} alone.",
    )
    place[3].button(
        "Keep result",
        key="transplant_keep",
        icon=":material/playlist_add:",
        on_click=keep,
        args=[view],
        width="stretch",
        help="Put it on a list below, to compare.",
    )
    place[4].button(
        "Example pair",
        key="transplant_example",
        icon=":material/lightbulb:",
        on_click=_example,
        width="stretch",
        help=f"“{SHOWN_PAIR.source}” gives, “{SHOWN_PAIR.prompt}” receives three times its ΔW.",
    )


@guarded_callback
def _example() -> None:
    model = opened.opened_model(*selection().base)
    last = len(model.tokenizer(SHOWN_PAIR.source)["input_ids"]) - 1
    st.session_state.update(prompt=SHOWN_PAIR.source, tok=last, chat=False, bos="auto")
    st.session_state["transplant_strength"] = SHOWN_STRENGTH
    receive(SHOWN_PAIR.prompt)

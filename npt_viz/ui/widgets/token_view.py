"""Token view: a prompt as strip, profile and layer × token map, linked and pinned in the browser.

What the browser draws and how is in npt_viz/figures/token_view; here is what Streamlit adds: a click shows in the browser at
once and is told to the server afterwards. The data is the same for every pin of an inspection, layer and metric, so that a pin
sends nothing anew; which token is pinned travels in `pin_signal`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from npt_viz.figures.token_view import CSS, HTML, SCRIPT
from npt_viz.figures.token_view import Part as Part
from npt_viz.figures.token_view import PromptBox as PromptBox
from npt_viz.figures.token_view import first_choices as first_choices
from npt_viz.figures.token_view import token_view_data as token_view_data


@cache
def _component(reserved: int):
    """The component that takes this many pixels before its script runs, so that what stands below it does not jump."""
    return st.components.v2.component(
        f"npt_token_view_{reserved}",
        html=HTML.format(reserved=reserved),
        css=CSS,
        js=SCRIPT,
    )


_signal = st.components.v2.component(
    "npt_pin_signal",
    html='<span class="npt-signal"></span>',
    js=(Path(__file__).parent / "pin_signal.js").read_text(encoding="utf-8"),
)

_HEARD = "_token_view_heard"
"""Session key: time stamp of the browser's last pin or question that reached the server."""


def token_view(
    data: dict,
    *,
    key: str,
    on_pin: Callable[[int, int | None], None],
    on_ask: Callable[[str, bool, str], None] | None = None,
) -> None:
    """Draw what `token_view_data` made.

    on_pin(token, layer): a token was pinned; layer is None where the click named none (strip, profile).
    on_ask(prompt, chat, bos): another prompt is to be inspected; bos is auto, yes or no. The whole app runs again then,
    where a pin runs only the fragment that the view is drawn in.
    """
    again = f"_{key}_asked"
    if st.session_state.pop(again, False) and is_fragment_rerun():
        st.rerun()

    def pinned() -> None:
        sent = st.session_state[key].get("pinned")
        if sent is None:
            return
        st.session_state[_HEARD] = sent["at"]
        layer = sent["layer"] if sent["layer"] in data["layers"] else None
        if 0 <= sent["token"] < len(data["glyphs"]):
            on_pin(int(sent["token"]), layer)

    def asked() -> None:
        sent = st.session_state[key].get("asked")
        if sent is None or on_ask is None:
            return
        st.session_state[_HEARD] = sent["at"]
        st.session_state[again] = True
        on_ask(
            str(sent["prompt"]), bool(sent["chat"]), sent["bos"] if sent["bos"] in ("yes", "no") else "auto"
        )

    _component(data["reserved"])(
        data=data | {"name": key}, key=key, on_pinned_change=pinned, on_asked_change=asked
    )


def is_fragment_rerun() -> bool:
    """Whether this run draws a fragment anew and nothing else."""
    context = get_script_run_ctx()
    return context is not None and bool(context.fragment_ids_this_run)


def pin_signal(token: int | None, layer: int | None, *, key: str, channel: str = "prompt") -> None:
    """Tell all token views of a channel on the page which token and layer are pinned."""
    _signal(
        data={
            "channel": channel,
            "token": token,
            "layer": layer,
            # An answer to an older click must not undo a newer one.
            "at": st.session_state.get(_HEARD, 0),
        },
        key=key,
    )

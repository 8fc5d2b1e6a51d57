"""A tour of a few steps on the demo checkpoints: it ends when the user has found why the unhealthy one fails.

A step is where the user is, not a counter: whoever does it another way gets on as well.
"""

import streamlit as st

from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.asked import open_checkpoint
from npt_viz.ui.shell.found import checkpoints_here

keeping.keep("tour", "new")
"""new: to be offered; on: its step stands above every page about a prompt; over: taken, or not wanted."""


def offer() -> None:
    """Offer the tour where it was neither taken nor declined, and the demo checkpoints are here."""
    keeping.settle("tour")
    if st.session_state["tour"] != "new" or not _unhealthy():
        return
    with st.container(horizontal=True, vertical_alignment="center", key="tour_offer"):
        st.markdown(
            "New here? In a minute you find out why one of the demo checkpoints fails.", width="content"
        )
        st.button("Take the tour", key="tour_take", on_click=_set, args=["on"])
        st.button("No, thanks", key="tour_decline", type="tertiary", on_click=_set, args=["over"])


def step(page: str) -> None:
    """Draw the tour's step above a page, while it is on. page: its title."""
    keeping.settle("tour")
    unhealthy = _unhealthy()
    if st.session_state["tour"] != "on" or not unhealthy:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="tour_step"):
        if st.session_state["checkpoint"] != unhealthy:
            _say(1, "This checkpoint is open. Now open one whose **training figure is better**, 0.95.")
            st.button("Open it", key="tour_open", on_click=_open, args=[unhealthy])
        elif page != "Reconstruction":
            _say(
                2,
                "All its tensors are used and parity holds, yet Health on Home is **red**. See what the layer recovers.",
            )
            st.page_link(
                "pages/reconstruction.py",
                label="To Reconstruction",
                icon=":material/arrow_forward:",
                width="content",
            )
        elif st.session_state["positions"] == "deployed":
            _say(
                3,
                "It recovers only **half** of what attention does. Run attention as in its training: without RoPE.",
            )
            st.button("Positions as trained", key="tour_positions", on_click=_positions, args=["trained"])
        else:
            _say(
                4,
                "**Found:** it fits only without RoPE, as Health says on more text: trained on activations that no deployed model has.",
            )
            st.button("Done", key="tour_done", on_click=_finish)
        st.button("End the tour", key="tour_end", type="tertiary", on_click=_set, args=["over"])


def _say(number: int, sentence: str) -> None:
    st.markdown(f":material/tour: **{number} of 4** {sentence}", width="content")


def _unhealthy() -> str:
    return next((path for path in checkpoints_here() if path.endswith("unhealthy-no-rope")), "")


def _set(state: str) -> None:
    st.session_state["tour"] = state


def _open(path: str) -> None:
    open_checkpoint(path)
    _positions("deployed")


def _positions(positions: str) -> None:
    st.session_state["positions"] = positions


def _finish() -> None:
    _positions("deployed")
    _set("over")

"""What the head names, as plain values: base model and checkpoint, and the question asked of them."""

import streamlit as st

from npt_viz.question import Bos, Question
from npt_viz.ui.cache.opened import Asked, Selection, stamp

BOS: dict[str, Bos] = {"auto": "auto", "yes": True, "no": False}
"""The choices of the widget and what they are in a question."""


def selection() -> Selection:
    """Base model and checkpoint that the head names."""
    session = st.session_state
    model, checkpoint = session["model"], session["checkpoint"] or ""
    return Selection(
        model,
        stamp(model),
        session["dtype"],
        session["device"],
        checkpoint,
        stamp(checkpoint) if checkpoint else "",
        session["semantics"],
    )


def asked() -> Asked:
    """Question that the head asks. Raises NptVizError where its parts do not go together."""
    session = st.session_state
    question = Question(
        prompt=session["prompt"],
        layers=tuple(session["on"]) or None,
        mode=session["mode"],
        positions=session["positions"],
        chat=session["chat"],
        bos=BOS[session["bos"]],
    )
    return Asked(selection(), question)


def open_checkpoint(path: str) -> None:
    """Name another checkpoint; choices that belong to the one before are dropped."""
    st.session_state.update(checkpoint=path or "", semantics="", on=[], layer=None)

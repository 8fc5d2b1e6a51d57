"""The first screen first: figures, whose library is large, wait until the browser has drawn the prompt and the answer."""

import streamlit as st

_painted = st.components.v2.component(
    "npt_painted",
    html="<span hidden></span>",
    js="""
export default function ({ setTriggerValue }) {
  const id = requestAnimationFrame(() => setTimeout(() => setTriggerValue("painted", true)))
  return () => cancelAnimationFrame(id)
}
""",
)


def has_painted() -> bool:
    """Whether this browser has drawn something already."""
    # AppTest has no theme, and no browser that could say so.
    return st.session_state.get("_has_painted", False) or st.context.theme.type is None


def wait_for_paint() -> bool:
    """`has_painted`; if not, the browser asks for the rest of the page as soon as it has."""
    if not has_painted():
        _painted(key="painted", on_painted_change=_now_painted)
    return has_painted()


def _now_painted() -> None:
    st.session_state["_has_painted"] = True
    # What stands outside a fragment waits as well.
    st.session_state["_draw_all"] = True

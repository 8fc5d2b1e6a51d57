"""The first screen first: figures, whose library is large, wait until the browser has drawn the prompt and the answer."""

import streamlit as st

_painted = st.components.v2.component(
    "npt_painted",
    html="<span hidden></span>",
    js="""
export default function ({ setTriggerValue }) {
  let timer
  // Said again where it was not heard, which a busy server may do; never into a run, which it would begin anew.
  const isAtRest = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning"
  const say = (isFirst) => {
    if (isFirst || isAtRest()) setTriggerValue("painted", true)
    timer = setTimeout(say, 2000, false)
  }
  const frame = requestAnimationFrame(() => (timer = setTimeout(say, 0, true)))
  return () => {
    cancelAnimationFrame(frame)
    clearTimeout(timer)
  }
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

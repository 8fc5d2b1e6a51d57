"""The first screen first: figures, whose library is large, wait until the browser has drawn the prompt and the answer."""

import streamlit as st

from npt_viz.server.document import part_of_streamlit

_painted = st.components.v2.component(
    "npt_painted",
    html="<span hidden></span>",
    js="""
export default function ({ data, setTriggerValue }) {
  let timer
  // Its reading takes most of a second: meanwhile the server draws what needs it.
  const fetchCharts = () => data.charts && import(new URL(data.charts, document.baseURI)).catch(() => {})
  // Said again where it was not heard, which a busy server may do; never into a run, which it would begin anew.
  const isAtRest = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning"
  const say = (isFirst) => {
    if (isFirst || isAtRest()) setTriggerValue("painted", true)
    if (isFirst) fetchCharts()
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


def wait_for_paint(*, charts: bool) -> bool:
    """`has_painted`; if not, the browser asks for the rest of the fragment as soon as it has.

    charts: whether it has figures; their library is then fetched while the browser asks.
    """
    if not has_painted():
        data = {"charts": part_of_streamlit("PlotlyChart") if charts else None}
        _painted(data=data, key="painted", on_painted_change=_now_painted)
    return has_painted()


def _now_painted() -> None:
    st.session_state["_has_painted"] = True

"""What takes longer than AT_ONCE waits for a button; what is quicker runs at once; what was computed is kept."""

import pytest
from streamlit.testing.v1 import AppTest

from npt_viz.ui.cache import kept, on_demand


def script(seconds: float) -> None:
    import streamlit as st

    from npt_viz.ui.cache.on_demand import on_demand

    def compute(progress):
        st.session_state["computed"] = st.session_state.get("computed", 0) + 1
        return "the result"

    st.session_state["result"] = on_demand(("a test", seconds), "Compute it", seconds, compute, key="a_test")


@pytest.fixture(autouse=True)
def nothing_kept():
    kept.results().clear()


def ran(seconds: float) -> AppTest:
    page = AppTest.from_function(script, kwargs={"seconds": seconds}).run()
    assert not page.exception
    return page


@pytest.mark.parametrize("seconds", [0.0, 3.9, 4.0])
def test_what_takes_up_to_four_seconds_runs_at_once(seconds):
    page = ran(seconds)
    assert page.session_state["result"] == "the result" and not page.button


@pytest.mark.parametrize(("seconds", "words"), [(4.1, "about 4 s"), (600.0, "about 10 min")])
def test_what_takes_longer_waits_for_a_button_that_says_how_long(seconds, words):
    page = ran(seconds)
    assert page.session_state["result"] is None and "computed" not in page.session_state
    assert words in page.caption[0].value
    page.button(key="a_test_run").click().run()
    assert page.session_state["result"] == "the result"


def test_a_result_is_computed_once_for_all_sessions():
    ran(1.0)
    page = ran(1.0)
    assert page.session_state["result"] == "the result" and "computed" not in page.session_state


@pytest.mark.parametrize(("n_tokens", "says"), [(1500, False), (1501, True)])
def test_a_wait_says_how_long_it_is_where_more_than_1500_tokens_are_run(monkeypatch, n_tokens, says):
    spinners = []
    monkeypatch.setattr(on_demand, "seconds_per_token", lambda selection: 0.01)
    monkeypatch.setattr(
        on_demand.st, "spinner", lambda text, show_time: spinners.append((text, show_time)) or nothing()
    )
    monkeypatch.setattr(on_demand.st, "session_state", {})
    # The second time the result is kept.
    for _ in range(2):
        with on_demand.waiting(None, "Comparing", 1, n_tokens, of="a question"):
            pass
    ((text, show_time),) = spinners
    assert show_time is says
    assert text == ("Comparing: 1,501 tokens take about 15 s" if says else "Comparing")


def nothing():
    from contextlib import nullcontext

    return nullcontext()

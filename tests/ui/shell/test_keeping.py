"""Choices that are kept: what a new session finds, and what it does not take."""

import pandas as pd
import pytest
import streamlit as st

from npt_viz.ui.cache.owner import Owner
from npt_viz.ui.shell import keeping
from npt_viz.workspace.place import Workspace


@pytest.fixture
def session(tmp_path, monkeypatch):
    """session(): a new session of the same browser; what it holds is a plain dict."""
    owner = Owner("1" * 32, Workspace(tmp_path))
    monkeypatch.setattr(keeping, "owner", lambda: owner)
    monkeypatch.setattr(keeping, "KEPT", {})

    def begun() -> dict:
        held: dict = {}
        monkeypatch.setattr(st, "session_state", held)
        return held

    return begun


def test_a_new_session_finds_what_the_one_before_chose(session):
    keeping.keep_all({"rule": "npt", "alpha": 1.0, "tokens": [], "unset": 7})
    held = session()
    keeping.settle("rule", "alpha", "tokens", "unset")
    assert held == {"rule": "npt", "alpha": 1.0, "tokens": [], "unset": 7}
    held |= {"rule": "exact", "alpha": 2, "tokens": [3, 5], "another": "not kept"}
    keeping.remember()
    held = session()
    keeping.settle("rule", "alpha", "tokens", "unset")
    assert held == {"rule": "exact", "alpha": 2, "tokens": [3, 5], "unset": 7}


def test_a_session_keeps_what_it_has(session):
    keeping.keep("rule", "npt")
    held = session()
    held["rule"] = "exact"
    keeping.remember()
    held = session()
    held["rule"] = "from the address"
    keeping.settle("rule")
    assert held["rule"] == "from the address"


def test_a_default_is_not_shared_between_sessions(session):
    keeping.keep("tokens", [])
    held = session()
    keeping.settle("tokens")
    held["tokens"].append(1)
    held = session()
    keeping.settle("tokens")
    assert held["tokens"] == []


def test_a_tab_that_changes_nothing_leaves_what_another_chose(session):
    keeping.keep_all({"rule": "npt", "alpha": 1.0})
    first, second = session(), session()
    for held in (first, second):
        st.session_state = held
        keeping.settle("rule", "alpha")
        keeping.remember()
    st.session_state = first
    first["rule"] = "exact"
    keeping.remember()
    st.session_state = second
    second["alpha"] = 3.0
    keeping.remember()
    assert (keeping.kept("rule"), keeping.kept("alpha")) == ("exact", 3.0)


@pytest.mark.parametrize(
    ("default", "value"),
    [("npt", 3), (1.0, "2"), ([], "several"), (True, 1), (3, True), (3, 2.5), ("text", ["t"]), (1.0, [1.0])],
)
def test_a_value_of_another_kind_is_not_taken(session, default, value):
    keeping.keep("name")
    held = session()
    held["name"] = value
    keeping.remember()
    keeping.keep("name", default)
    held = session()
    keeping.settle("name")
    assert held["name"] == default and type(held["name"]) is type(default)


def test_a_table_is_kept_as_its_rows(session):
    keeping.keep(
        "rows", write=lambda t: t.to_dict("records"), read=lambda rows: pd.DataFrame(rows, columns=["a", "b"])
    )
    held = session()
    held["rows"] = pd.DataFrame({"a": ["x", "y"], "b": [1.5, None]})
    keeping.remember()
    held = session()
    keeping.settle("rows")
    assert held["rows"]["a"].tolist() == ["x", "y"] and held["rows"]["b"].isna().tolist() == [False, True]


def test_what_cannot_be_read_is_the_default(session):
    keeping.keep("rows")
    held = session()
    held["rows"] = 5
    keeping.remember()
    keeping.keep("rows", "none", read=lambda rows: list(rows))
    held = session()
    keeping.settle("rows")
    assert held["rows"] == "none"


def test_a_text_that_is_too_long_lasts_as_long_as_its_session(session):
    keeping.keep("text", "")
    held = session()
    held["text"] = "x" * (keeping.LONGEST + 1)
    keeping.remember()
    assert keeping.kept("text") is None


def test_a_prompt_that_an_address_refers_to_is_found_again_and_old_ones_go(session):
    session()
    for number in range(keeping.MOST_PROMPTS + 5):
        keeping.keep_prompt(f"r{number}", f"prompt {number}")
    keeping.keep_prompt("r10", "prompt 10")
    assert keeping.kept_prompt("r24") == "prompt 24" and keeping.kept_prompt("r10") == "prompt 10"
    assert keeping.kept_prompt("r4") is None and keeping.kept_prompt("unknown") is None


def test_what_a_page_decides_itself_is_a_default_that_what_was_kept_replaces(session):
    held = session()
    held["rank"] = 4
    keeping.overlay("rank")
    held["rank"] = 9
    keeping.remember()
    held = session()
    held["rank"] = 5
    keeping.overlay(
        "rank",
    )
    assert held["rank"] == 9

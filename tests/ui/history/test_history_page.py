"""The History page: what was asked is listed, searched, shown from its numbers, reopened, tagged, deleted."""

import html
import os
import re
import shutil
from dataclasses import replace
from urllib.parse import parse_qs

import numpy as np
import pytest
from onpage import tables
from streamlit.testing.v1 import AppTest

from npt_viz.places import ROOT
from npt_viz.results.sentences.tokens import tokens
from npt_viz.results.words import number
from npt_viz.ui.cache import opened
from npt_viz.ui.cache import owner as owners
from npt_viz.ui.history.controls import row_html
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.numbers import unpacked, unpacked_tables

FACT = "The cat is blue. The cat is"
HOSTILE = "<img src=x onerror=alert(1)> **b** `c` :red[d] $e$ [f](javascript:g)"


@pytest.fixture
def browser(monkeypatch, tmp_path):
    """The history of a browser of this test's own."""
    from npt_viz.ui.cache.owner import Owner
    from npt_viz.workspace.place import Workspace

    one = Owner("7" * 32, Workspace(tmp_path / "workspace"))
    one.last()
    monkeypatch.setattr(owners, "owner", lambda: one)
    for name in ("shell.recording", "shell.keeping", "history.state", "history.controls", "history.panels",
                 "edit.transplant.state", "shell.ledger_box"):  # fmt: skip
        monkeypatch.setattr(f"npt_viz.ui.{name}.owner", lambda: one)
    return one


@pytest.fixture
def history(browser):
    return browser.history


@pytest.fixture
def past(on_disk):
    """past(entry=key): the History page, or another, opened without a look at Home, which inspects its example."""

    def opened(page="history", **said):
        test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in ({"model": on_disk.model, "checkpoint": on_disk.checkpoint} | said).items():
            test.query_params[name] = value
        return test.switch_page(f"pages/{page}.py").run()

    return opened


def listed(page) -> list[str]:
    """Titles of the rows."""
    return [each.label.replace("\\", "") for each in page.button if each.key.startswith("history_show_")]


def rows(page) -> list[str]:
    return [each.proto.body for each in page.get("html") if "npt-past" in each.proto.body]


def said(page) -> str:
    parts = [*page.markdown, *page.caption, *page.info, *page.error]
    return " ".join(each.value for each in parts).replace("\\", "")


def views(page):
    return [each for each in page.get("bidi_component") if "history_view" in str(each.proto)]


def test_an_inspection_is_one_entry_with_its_numbers_and_pins_add_none(past, history):
    page = past("tokens", prompt=FACT, layer="3", tok="5")
    page.session_state["tok"] = 7
    page.run()
    (entry,) = history.found().entries
    assert (entry.kind, entry.page, entry.prompt, entry.title) == ("inspection", "tokens", FACT, FACT)
    assert entry.settings["layer"] == "3" and entry.settings["tok"] == "5" and "prompt" not in entry.settings
    run = unpacked(history.numbers(entry.key))
    assert run.prompt == FACT and entry.sentence == str(tokens(run, 3)) and "<path" in entry.thumbnail
    at = entry.time
    page.session_state["prompt"] = "Another one"
    page.run()
    page.session_state["prompt"] = FACT
    page.run()
    assert [each.prompt for each in history.found().entries] == [FACT, "Another one"]
    assert history.found().entries[0].time > at


def test_another_checkpoint_mode_or_layer_that_runs_is_another_question(app, history):
    page = app("tokens", prompt=FACT)
    for name, value in (("mode", "propagated"), ("positions", "trained"), ("on", [1])):
        page.session_state[name] = value
        page.run()
    assert history.found().n == 4


def test_without_entries_the_page_says_what_will_be_there(past, history):
    page = past(model="no model at all", checkpoint="")
    assert not page.exception and not page.error and "Nothing is kept yet" in said(page)


def test_an_entry_is_shown_from_its_numbers_without_a_model(app, past, history, browser, monkeypatch):
    app("tokens", prompt=FACT, layer="3")
    app("tokens", prompt="Another one")
    (newest, older) = history.found().entries
    opened.results().clear()

    def refused(*_, **__):
        raise AssertionError("a model was opened")

    monkeypatch.setattr(opened, "opened_model", refused)
    monkeypatch.setattr("npt_viz.capture.inspection.inspect", refused)
    page = past()
    assert not page.exception and listed(page) == ["Another one", FACT] and newest.sentence in said(page)
    page.button(key=f"history_show_{older.key}").click().run()
    assert older.sentence in said(page)
    assert page.query_params["entry"] == older.key
    (view,) = views(page)
    assert "history_view" in str(view.proto)
    assert not page.exception and not page.error


def test_reopening_computes_nothing(app, past, history, monkeypatch, on_disk):
    app("tokens", prompt=FACT, layer="3", mode="propagated")
    (entry,) = history.found().entries
    opened.results().clear()
    past()

    def refused(*_, **__):
        raise AssertionError("it was computed again")

    monkeypatch.setattr("npt_viz.capture.inspection.inspect", refused)
    from npt_viz.ui.history.state import asked_of

    kept = opened.results().get(("inspection", asked_of(entry)))
    assert kept is not None and kept.mode == "propagated"
    page = app(
        "tokens", prompt=FACT, **{k: v for k, v in entry.settings.items() if k not in ("model", "checkpoint")}
    )
    assert not page.exception and "computed again" not in said(page) and "Layer 3 is" in said(page)


def link(page, label="Reopen"):
    (found,) = [each for each in page.get("page_link") if each.proto.label == label]
    return found.proto


def test_reopen_is_a_link_with_the_prompt_and_all_settings(app, past, history):
    long = "word " * 3000
    for prompt in (FACT, long):
        app("tokens", prompt=prompt, layer="1", positions="trained", tok="3")
    for entry in history.found().entries:
        page = past(entry=entry.key)
        query = link(page).query_string
        assert "layer=1" in query and "positions=trained" in query and "tok=3" in query
        assert ("prompt=The+cat" in query) == (entry.prompt == FACT)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("cat blue", None, [FACT]),
        ("ANOTHER", None, ["Another one"]),
        ("cat", "edit", []),
        ("", "inspection", ["Another one", FACT]),
    ],
)
def test_searching(app, past, history, text, kind, expected):
    for prompt in (FACT, "Another one"):
        app("tokens", prompt=prompt)
    page = past()
    page.text_input(key="history_find").set_value(text)
    page.selectbox(key="history_kind").set_value(kind)
    page.run()
    assert listed(page) == expected
    assert ("No entry has all of this" in said(page)) == (not expected)


def test_tags_are_kept_searched_and_chosen(app, past, history):
    app("tokens", prompt=FACT)
    app("tokens", prompt="Another one")
    entry = history.found().entries[1]
    page = past(entry=entry.key)
    page.multiselect(key=f"history_tags_{entry.key}").set_value(["for the paper"]).run()
    assert history.entry(entry.key).tags == ("for the paper",) and not page.exception
    page.selectbox(key="history_tag").set_value("for the paper").run()
    assert listed(page) == [FACT] and "#for the paper" in rows(page)[0]


def test_deleting_is_asked_once_and_undone(app, past, history):
    app("tokens", prompt=FACT)
    app("tokens", prompt="Another one")
    entry = history.found().entries[0]
    page = past(entry=entry.key)
    page.button(key="history_delete_one").click().run()
    assert listed(page) == [FACT] and "entry" not in page.query_params
    page.button(key="history_bring_back").click().run()
    assert listed(page) == ["Another one", FACT] and not page.exception
    page.button(key="history_delete_all").click().run()
    assert listed(page) == [] and "Bring 2 deleted entries back" in [b.label for b in page.button]
    page.button(key="history_bring_back").click().run()
    assert len(listed(page)) == 2


def test_a_changed_and_a_vanished_checkpoint_are_marked_and_the_numbers_stay(
    app, past, history, on_disk, tmp_path
):
    copy = str(shutil.copytree(on_disk.checkpoint, tmp_path / "mine"))
    app("tokens", prompt=FACT, checkpoint=copy)
    (entry,) = history.found().entries
    page = past()
    assert not any("changed" in row for row in rows(page)) and link(page)
    os.utime(next(file for file in (tmp_path / "mine").iterdir() if file.suffix == ".safetensors"), (1, 1))
    page = past()
    assert "checkpoint changed since" in rows(page)[0] and "numbers of then" in said(page) and link(page)
    opened.results().clear()
    page.run()
    from npt_viz.ui.history.state import asked_of

    assert opened.results().get(("inspection", asked_of(entry))) is None, "another checkpoint's numbers"
    shutil.rmtree(copy)
    page = past()
    assert "checkpoint is gone" in rows(page)[0] and entry.sentence in said(page) and len(views(page)) == 1
    assert page.button(key="history_reopen").disabled and not page.exception and not page.error


def test_switched_off_nothing_is_kept(app, past, history, browser):
    page = past()
    page.toggle(key="history_on").set_value(False).run()
    assert "switched off" in said(page)
    app("tokens", prompt=FACT)
    assert history.found().n == 0
    page.toggle(key="history_on").set_value(True).run()
    app("tokens", prompt=FACT)
    assert history.found().n == 1


def test_with_prompts_left_out_no_text_of_one_is_on_disk(app, past, history, browser):
    page = past()
    page.toggle(key="history_bare").set_value(True).run()
    app("tokens", prompt="zebra quagga zebra quagga")
    app("tokens", prompt="zebra quagga zebra quagga")
    owners.flush()
    (entry,) = history.found().entries
    assert entry.prompt == "" and entry.title == "25 tokens without their text"
    assert "…" in entry.sentence and "Layer 3 is" in entry.sentence
    run = unpacked(history.numbers(entry.key))
    assert run.tokens[:3] == ("#0", "#1", "#2") and np.isfinite(run.kl).all()
    for name in ("zebra", "quagga"):
        assert name.encode() not in history.file.read_bytes()
    page = past()
    assert listed(page) == [entry.title] and len(views(page)) == 1 and not page.exception
    assert page.button(key="history_reopen").disabled


def test_a_hostile_prompt_is_shown_as_it_is(app, past, history):
    app("tokens", prompt=HOSTILE)
    page = past()
    assert not page.exception and listed(page)[0].startswith("<img src=x onerror=alert(1)> **b** `c`")
    assert all("<img src=x" not in row and "onerror=alert" not in row for row in rows(page))
    button = next(each for each in page.button if each.key.startswith("history_show_"))
    assert r"\<img" in button.label and r"\*\*b" in button.label and r"\[f\]" in button.label


def test_everything_in_a_row_is_escaped():
    hostile = replace(
        entry("x", 1.0),
        sentence=HOSTILE,
        tags=(HOSTILE,),
        checkpoint=HOSTILE,
        thumbnail=f"<svg>{HOSTILE}</svg>",
    )
    row = row_html(hostile)
    found = re.findall(r"<(/?\w+)([^>]*)>", row)
    assert {name for name, _ in found} <= {"div", "/div", "p", "/p", "small", "/small", "img", "b", "/b"}
    assert next(rest for name, rest in found if name == "img").startswith(
        ' alt="" src="data:image/svg+xml;base64,'
    )
    assert row.count("&lt;img src=x onerror=alert(1)&gt;") == 3 and "onerror" not in "".join(
        rest for _, rest in found
    )


def test_two_entries_are_compared(app, past, history):
    app("tokens", prompt=FACT, layer="3", mode="propagated")
    app("tokens", prompt="The cat is red. The cat is", layer="1")
    red, blue = history.found().entries
    page = past(entry=blue.key)
    assert page.button(key="history_compare_with_a").disabled
    page.button(key="history_pin_as_a").click().run()
    side = page.session_state["a_side"]
    assert (side["prompt"], side["mode"], side["layer"]) == (FACT, "propagated", 3)
    page.button(key=f"history_show_{red.key}").click().run()
    page.button(key="history_compare_with_a").click().run()
    assert not page.exception and page.session_state["prompt"] == red.prompt
    assert page.session_state["mode"] == "local" and page.session_state["layer"] == 1
    assert page.session_state["a_side"] == side and page.session_state["_page"] == "compare"


def test_an_applied_update_is_kept_and_its_choices_come_back(app, past, history):
    page = app("permanent_update", prompt=FACT, layer="3", tok="26")
    page.session_state["edit_prompt"] = "The cat is"
    page.session_state["edit_alpha"] = 2.5
    page.run()
    page.button(key="edit_apply").click().run()
    entry = next(each for each in history.found().entries if each.kind == "edit")
    assert "α 2.5" in entry.title and "The cat is" in entry.title and entry.page == "permanent_update"
    page = past(entry=entry.key)
    assert tables(page, "next token") and tables(page, "along the prompt") and not page.exception
    page.session_state["edit_alpha"] = 1.0
    page.button(key="history_reopen").click().run()
    assert not page.exception and page.session_state["edit_alpha"] == 2.5
    assert page.session_state["edit_prompt"] == "The cat is" and page.session_state["prompt"] == FACT


def test_with_prompts_left_out_an_edit_and_a_transplant_have_no_text(app, past, history):
    past().toggle(key="history_bare").set_value(True).run()
    page = app("permanent_update", prompt="zebra quagga", layer="3", tok="3")
    page.session_state["edit_prompt"] = "quagga is"
    page.run()
    page.button(key="edit_apply").click().run()
    page = app("transplant", prompt="zebra quagga")
    page.session_state["transplant_prompt"] = "quagga is"
    page.run()
    page.button(key="transplant_keep").click().run()
    owners.flush()
    kinds = {each.kind: each for each in history.found().entries}
    assert {"edit", "transplant", "inspection"} == kinds.keys()
    assert b"zebra" not in history.file.read_bytes() and b"quagga" not in history.file.read_bytes()
    for kind in ("edit", "transplant"):
        assert kinds[kind].choices == {} and "…" in kinds[kind].sentence
        rows = unpacked_tables(history.numbers(kinds[kind].key))
        assert {row["next token"] for row in rows["next token"]} == {""} and rows["next token"][0][
            "after"
        ] > 0
        assert {row["glyph"] for row in rows["along the prompt"]} == {""}


def test_an_examination_of_the_checkpoint_is_a_scan(app, past, history, monkeypatch):
    from npt_viz.analysis import health as rules

    quick = rules.health
    monkeypatch.setattr(
        rules, "health", lambda *of, quick=False, progress=None: whole(*of, progress), raising=True
    )

    def whole(model, checkpoint, progress):
        return quick(model, checkpoint, quick=True)

    page = app()
    page.button(key="home_health_run").click().run()
    (entry,) = history.found(kind="scan").entries
    assert entry.title == "Health of npt-tiny" and "token" in entry.sentence and entry.page == "home"
    page = past(entry=entry.key)
    assert tables(page, "findings") and not page.exception


def test_a_kept_transplant_is_in_the_history(app, past, history):
    page = app("transplant", prompt=FACT, tok="5")
    page.button(key="transplant_keep").click().run()
    entry = next(each for each in history.found().entries if each.kind == "transplant")
    assert entry.choices["transplant_operation"] == "replace" and "the NPT model says" in entry.sentence
    page = past(entry=entry.key)
    assert tables(page, "next token") and not page.exception


def test_older_entries_are_a_click_away(past, history):
    for i in range(60):
        history.put(entry(str(i), float(i)))
    page = past()
    assert listed(page) == [f"title {i}" for i in range(59, 34, -1)] and "1 to 25 of 60" in said(page)
    page.button(key="history_older").click().run()
    page.button(key="history_older").click().run()
    assert (
        listed(page) == [f"title {i}" for i in range(9, -1, -1)] and page.button(key="history_older").disabled
    )
    page.text_input(key="history_find").set_value("title 5").run()
    assert listed(page)[0] == "title 59", "a new search begins with the newest"


def entry(name, at) -> Entry:
    return Entry(
        key=name,
        time=at,
        kind="training",
        page="training",
        title=f"title {name}",
        sentence="s",
        folder="none",
    )


def test_an_experiment_opens_with_its_folder_and_leaves_the_prompt(past, history, tmp_path):
    settings = {"model": "m", "checkpoint": "c"}
    one = replace(
        entry("x", 1.0), kind="experiment", page="experiments", folder=str(tmp_path), settings=settings
    )
    history.put(one)
    query = parse_qs(link(past(prompt=FACT)).query_string)
    assert query == {"model": ["m"], "checkpoint": ["c"], "prompt": [FACT], "experiment": [str(tmp_path)]}


def test_a_training_whose_folder_is_gone_says_so(past, history):
    history.put(entry("x", 1.0))
    page = past()
    assert "its folder is gone" in said(page) and not page.exception


def test_a_history_of_a_newer_version_is_a_sentence_and_the_pages_go_on(app, past, history, monkeypatch):
    app("tokens", prompt=FACT)
    owners.flush()
    monkeypatch.setattr("npt_viz.workspace.history.VERSION", 0)
    page = past()
    assert "the history has version 1 and this npt_viz reads 0" in said(page) and not page.exception
    assert "Layer 3 is" in said(app("tokens", prompt="Another one"))


def test_a_report_has_every_listed_entry_as_text_with_its_numbers(past, history, on_disk):
    from npt_viz.ui.history import state

    past("tokens", prompt=FACT, layer="3")
    past("tokens", prompt=HOSTILE, layer="1")
    entries = history.found("").entries
    assert {entry.prompt for entry in entries} == {FACT, HOSTILE}
    report = state.report_of(entries)
    for entry in entries:
        assert html.escape(entry.sentence) in report and html.escape(entry.prompt) in report
        frame = unpacked(history.numbers(entry.key)).to_frame()
        assert number(float(frame["relative_error"].iloc[2])) in report
    assert "<img src=x" not in report and "<script" not in report
    assert report.count("data:image/svg+xml;base64,") == 2
    page = past()
    assert "Report of these 2" in [each.proto.label for each in page.get("download_button")]

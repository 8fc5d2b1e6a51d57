"""Compare: what A is, what the page says of A and B, what its address keeps, and what it says to bad input."""

import base64
import json

import numpy as np
import pytest
from conftest import tiny_model
from onpage import html_tables, opener, save_variant
from streamlit.testing.v1 import AppTest

import npt_viz
from npt_viz.__main__ import main
from npt_viz.results.comparison import COMPARED
from npt_viz.results.sentences.comparison import comparison
from npt_viz.results.words import number

PROMPT, OTHER = "The old cat is asleep", "The new cats is asleep."


@pytest.fixture(scope="module")
def opened(on_disk):
    model = npt_viz.open_model(on_disk.model)
    return model, npt_viz.open_checkpoint(on_disk.checkpoint, model)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    return save_variant(tmp_path_factory.mktemp("other") / "npt-other", tiny_model(), "N3")


@pytest.fixture
def page(app):
    return app("compare", prompt=PROMPT, layer="3", metric="recovered")


def said(page) -> str:
    assert not page.exception
    return (
        "\n".join(each.value for each in page.markdown).replace("\\", "").replace("**", "").replace("`", "")
    )


def sentence(found, metric="recovered") -> str:
    return str(comparison(found, metric))


def strip_of(page) -> dict:
    found = (
        json.loads(each.proto.json) for each in page.main if each.type == "bidi_component" and each.proto.json
    )
    return next(data for data in found if "glyphs" in data)


def values_of(page) -> np.ndarray:
    """(row, column) of the strip and the map."""
    strip = strip_of(page)
    return np.frombuffer(base64.b64decode(strip["values"]), "<f4").reshape(len(strip["layers"]), -1)


def address(page) -> dict[str, str]:
    return {name: text if isinstance(text, str) else text[0] for name, text in page.query_params.items()}


def test_it_opens_alone_and_compares_with_the_other_positions(page, opened):
    a = npt_viz.inspect(*opened, PROMPT, positions="trained")
    found = npt_viz.compare(a, npt_viz.inspect(*opened, PROMPT))
    assert sentence(found) in said(page) and not page.error
    assert not any(name.startswith("a_") for name in address(page))
    np.testing.assert_allclose(values_of(page), found.differences("recovered"), rtol=1e-3, atol=1e-5)
    rows = html_tables(page)["largest differences"]
    assert len(rows) == 8
    for row, each in zip(rows, found.largest("recovered", 8), strict=True):
        assert (row["token"], row["in A"]) == (each.token.glyph, str(each.pair.a))
        assert row["B − A"] == number(each.difference)


def test_the_address_says_what_a_has_otherwise_and_shows_the_same_in_a_new_session(
    app, opened, other, on_disk
):
    model, checkpoint = opened
    of_a = {"a_prompt": OTHER, "a_checkpoint": other, "a_mode": "propagated", "a_layer": "1", "a_on": "1"}
    page = app("compare", prompt=PROMPT, layer="3", metric="cosine", **of_a)
    a = npt_viz.inspect(model, npt_viz.open_checkpoint(other, model), OTHER, layers=[1], mode="propagated")
    found = npt_viz.compare(a, npt_viz.inspect(model, checkpoint, PROMPT), layer=(1, 3))
    assert sentence(found, "cosine") in said(page)
    assert {name: text for name, text in address(page).items() if name.startswith("a_")} == of_a
    again = opener(on_disk)(
        "compare", **{k: v for k, v in address(page).items() if k not in ("model", "checkpoint")}
    )
    assert sentence(found, "cosine") in said(again)
    # Deleted and inserted tokens are marked, and have no difference.
    strip = strip_of(page)
    only = [i for i, pair in enumerate(found.pairs) if pair.kind != "same"]
    assert [strip["glyphs"][i] for i in only] == [("−" if found.pairs[i].b is None else "+") + found.tokens[i].glyph for i in only]  # fmt: skip
    assert np.isnan(values_of(page)[:, only]).all() and strip["names"] == ["layer 1 → 3"]


CASES = {
    "two modes and sets of layers": (
        {"prompt": PROMPT, "layer": "1", "metric": "kl", "mode": "propagated", "a_mode": "local", "a_on": "1"},
        ("--prompt", PROMPT, "--layers", "1", "--b-layers", "1,3", "--b-mode", "propagated", "--layer", "1", "--metric", "kl"),
    ),
    "two prompts": (
        {"prompt": PROMPT, "layer": "3", "metric": "cosine", "a_prompt": OTHER},
        ("--prompt", OTHER, "--b-prompt", PROMPT, "--metric", "cosine"),
    ),
}  # fmt: skip


def agree(page, arguments, metric: str, capsys) -> None:
    """The page's sentence, strip and list are those of the command, and B − A is what its own A and B say."""
    assert main(["compare", *map(str, arguments), "--most", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentence"] in said(page)
    of_model = metric in ("kl", "nll_change")
    rows = [found["model"][metric]] if of_model else [row["numbers"][metric] for row in found["layers"]]
    a, b = ([[np.nan if x is None else x for x in row[side]] for row in rows] for side in "ab")
    np.testing.assert_allclose(values_of(page), np.array(b) - np.array(a), rtol=2e-3, atol=1e-5)
    listed = [row["token"] for row in html_tables(page)["largest differences"]]
    assert listed == [each["glyph"] for each in found["largest"]]


@pytest.mark.parametrize("case", CASES)
def test_page_and_command_agree(app, on_disk, capsys, case):
    said_of, asked = CASES[case]
    page = app("compare", **said_of)
    opened = ("--model", on_disk.model, "--checkpoint", on_disk.checkpoint)
    agree(page, (*opened, *asked), said_of["metric"], capsys)


def test_page_and_command_agree_on_two_checkpoints(app, on_disk, other, capsys):
    page = app("compare", prompt=PROMPT, layer="3", metric="recovered", a_checkpoint=other)
    asked = (
        "--model",
        on_disk.model,
        "--checkpoint",
        other,
        "--b-checkpoint",
        on_disk.checkpoint,
        "--prompt",
        PROMPT,
    )
    agree(page, asked, "recovered", capsys)


def test_what_is_pinned_on_another_page_is_compared_with(app, opened):
    page = app("tokens", prompt=OTHER, layer="1", metric="recovered")
    page.button(key="pin_as_a").click().run()
    page.session_state["layer"] = 3
    page.selectbox(key="positions").set_value("trained").run()
    assert address(page)["a_layer"] == "1" and address(page)["a_positions"] == "deployed"
    page.switch_page("pages/compare.py").run()
    a, b = (npt_viz.inspect(*opened, OTHER, positions=each) for each in ("deployed", "trained"))
    assert sentence(npt_viz.compare(a, b, layer=(1, 3))) in said(page)
    assert page.selectbox(key="a_layer").value == 1 and page.selectbox(key="a_positions").value == "deployed"


def test_a_is_changed_in_its_line_exchanged_and_taken_off(page, opened):
    page.selectbox(key="a_mode").set_value("propagated").run()
    assert address(page)["a_mode"] == "propagated" and address(page)["a_positions"] == "trained"
    a = npt_viz.inspect(*opened, PROMPT, positions="trained", mode="propagated")
    b = npt_viz.inspect(*opened, PROMPT)
    assert sentence(npt_viz.compare(a, b)) in said(page)
    page.button(key="a_swap").click().run()
    assert sentence(npt_viz.compare(b, a)) in said(page)
    assert (
        page.selectbox(key="positions").value == "trained" and page.selectbox(key="a_mode").value == "local"
    )
    page.text_area(key="a_prompt").set_value(OTHER).run()
    other = npt_viz.inspect(*opened, OTHER)
    assert sentence(npt_viz.compare(other, a)) in said(page)
    page.button(key="a_prompt_as_b").click().run()
    assert sentence(npt_viz.compare(b, a)) in said(page)
    page.button(key="a_clear").click().run()
    assert sentence(npt_viz.compare(npt_viz.inspect(*opened, PROMPT, mode="propagated"), a)) in said(page)
    assert not any(name.startswith("a_") for name in address(page))


def test_what_is_pinned_as_a_is_kept_in_the_browser(app, on_disk):
    page = app("tokens", prompt=OTHER, layer="1")
    page.button(key="pin_as_a").click().run()
    again = opener(on_disk)("home")
    new = type(again).from_file(again._script_path, default_timeout=60)
    new.session_state["_owner"] = page.session_state["_owner"]
    new.run()
    assert new.session_state["a_side"]["prompt"] == OTHER and new.session_state["a_side"]["layer"] == 1
    # A link shows the same in every browser: also that nothing is pinned.
    for name in ("model", "checkpoint"):
        new.query_params[name] = address(page)[name]
    assert new.run().session_state["a_side"] is not None


def test_a_prompt_that_is_left_out_of_the_address_is_left_out_for_a_as_well(app):
    page = app("compare", prompt=PROMPT, layer="3", a_prompt=OTHER)
    page.session_state["private"] = True
    page.run()
    assert "a_p" in address(page) and OTHER not in str(address(page)) and "The" not in str(address(page))


def test_a_deleted_token_is_pinned(app, opened):
    page = app("compare", prompt=PROMPT, a_prompt=OTHER, layer="3", a_layer="3")
    found = npt_viz.compare(npt_viz.inspect(*opened, OTHER), npt_viz.inspect(*opened, PROMPT))
    column = next(i for i, pair in enumerate(found.pairs) if pair.b is None)
    page.session_state["compare_deleted"] = found.pairs[column].a
    page.run()
    rows = html_tables(page)["next tokens of A and B"]
    head = f"next after {found.tokens[column].glyph}, only in A, A"
    assert [row[head] for row in rows[:3]] == [
        row[0] for row in found.a.npt_top.rows(found.pairs[column].a)[:3]
    ]
    assert {row["B"] for row in rows} == {"–"}


def test_before_and_after_an_edit(app, on_disk, tmp_path, capsys):
    page = app(
        "permanent_update", prompt="The cat is blue. The cat is", layer="3", tok="26", metric="nll_change"
    )
    page.number_input(key="edit_alpha").set_value(2.0).run()
    page.button(key="edit_apply").click().run()
    page.switch_page("pages/compare.py").run()
    page.selectbox(key="a_positions").set_value("deployed").run()
    page.selectbox(key="compare_edits_B").set_value((1,)).run()
    (ledger,) = page.session_state["_owner"].shared("_ledgers", dict).of_base.values()
    checkpoint = npt_viz.open_checkpoint(page.session_state["checkpoint"], ledger.model)
    prompt = page.session_state["prompt"]
    a, b = (npt_viz.inspect(ledger.model, checkpoint, prompt, edits=edits) for edits in (None, ledger))
    found = npt_viz.compare(a, b)
    assert found.differs == ("n_edits",) and sentence(found, "nll_change") in said(page)
    assert np.nanmax(np.abs(values_of(page))) > 1e-3
    assert address(page)["edits"] == "1" and address(page)["a_edits"] == "-"
    ledger.export(tmp_path / "edit", kind="recipe")
    asked = ("--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", prompt)
    agree(page, (*asked, "--b-edits", tmp_path / "edit", "--metric", "nll_change"), "nll_change", capsys)
    page.button(key="ledger_undo_1").click().run()
    assert "update #1, which lies beneath B, is no longer in this browser's ledger" in said(page)
    page.selectbox(key="compare_edits_B").set_value(()).run()
    assert "stays the same at every aligned token" in said(page)


def pinning():
    import streamlit as st

    from npt_viz.ui.compare.state import pin

    pin(st.session_state["found"], *st.session_state["at"])


@pytest.mark.parametrize(
    ("layers", "a_layer", "expected"),
    [((3, 3), 3, (1, 1)), ((3, 3), None, (None, 1)), ((1, 3), 1, (1, 3))],
    ids=["one layer", "that of B", "two layers"],
)
def test_a_click_on_the_map_moves_both_where_they_look_at_one_layer(opened, layers, a_layer, expected):
    a, b = (npt_viz.inspect(*opened, text) for text in (OTHER, PROMPT))
    found = npt_viz.compare(a, b, layer=layers)
    test = AppTest.from_function(pinning)
    state = {"a_side": {"layer": a_layer}, "layer": layers[1], "tok": None, "found": found}
    for name, value in state.items():
        test.session_state[name] = value
    deleted = next(i for i, pair in enumerate(found.pairs) if pair.b is None)
    # The map has a row for each layer of both, or one where two layers are compared.
    layer = 1 if layers[0] == layers[1] else 3
    for column, pinned in ((deleted, None), (2, found.pairs[2].b)):
        test.session_state["at"] = (column, layer)
        test.run()
        assert not test.exception and test.session_state["tok"] == pinned
        assert (test.session_state["a_side"]["layer"], test.session_state["layer"]) == expected
        assert test.session_state["compare_deleted"] == (found.pairs[column].a if pinned is None else None)


@pytest.mark.parametrize(
    ("of_a", "words"),
    [
        ({"a_prompt": "xyzvw"}, "The prompts of A and B have no token in common"),
        ({"a_model": "elsewhere"}, "A was pinned on the base model elsewhere, and the head names"),
        ({"a_layer": "2"}, "layer 2 does not run as NPT in A, whose NPT layers are 1, 3"),
        ({"a_checkpoint": "no-such-folder"}, "A: no-such-folder: no such file"),
        ({"a_prompt": "x" * 98}, "A: the prompt"),
        ({"a_edits": "7"}, "A: update #7, which lies beneath A, is no longer"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence_and_nothing_is_lost(app, of_a, words):
    page = app("compare", prompt="bcd", layer="3", **of_a)
    assert words in said(page) and not page.error
    # B is seen and edited, A is still what it was, and both can be changed.
    assert "".join(strip_of(page)["glyphs"]).endswith(("bcd", "+b+c+d"))
    said_of_a = {name: text for name, text in address(page).items() if name.startswith("a_")}
    assert said_of_a == of_a or set(said_of_a) == {"a_z"}
    page.button(key="a_clear").click().run()
    assert words not in said(page) and "A local, positions as trained" in said(page)


def test_every_number_and_both_strips_are_there_when_asked_for(page, opened):
    largest = int(html_tables(page)["largest differences"][0]["in A"])
    page.segmented_control(key="compare_section").set_value("Every number").run()
    rows = {row["number"]: row for row in html_tables(page)["every number of A and B"]}
    assert set(rows) == {metric.label for metric in COMPARED.values()}
    page.segmented_control(key="compare_section").set_value("A and B").run()
    assert not page.exception and {"A", "B"} <= {each.value.strip("*") for each in page.markdown}
    strips = [
        json.loads(each.proto.json) for each in page.main if each.type == "bidi_component" and each.proto.json
    ]
    of_sides = [each for each in strips if str(each.get("channel", "")).startswith("side")]
    both = [each for each in of_sides if "glyphs" in each]
    assert len(both) == 2 and both[0]["metric"] == both[1]["metric"], "one scale"
    assert {each["token"] for each in of_sides if "glyphs" not in each} == {
        page.session_state["tok"] or largest
    }


def test_the_snippet_gives_the_numbers_of_the_page(app, opened, other, capsys):
    page = app("compare", prompt=PROMPT, layer="3", a_prompt=OTHER, a_checkpoint=other, a_on="1", a_layer="1", mode="propagated")  # fmt: skip
    page.session_state["compare_carry"] = True
    page.run()
    (snippet,) = [each.value for each in page.code if "npt_viz.compare" in each.value]
    names = {}
    exec(snippet, names)
    model, checkpoint = opened
    a = npt_viz.inspect(model, npt_viz.open_checkpoint(other, model), OTHER, layers=[1], mode="propagated")
    found = npt_viz.compare(a, npt_viz.inspect(model, checkpoint, PROMPT, mode="propagated"), layer=(1, 3))
    assert sentence(names["found"]) == sentence(found) and "layer_a" in names["frame"]
    assert capsys.readouterr().out.splitlines()[0] == sentence(found, "relative_error")
    assert sentence(names["found"], "relative_error") in said(page)

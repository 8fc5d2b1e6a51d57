"""Transplant opens alone; donor and receiver are chosen in two strips; results are kept to compare."""

import re

import pytest
from onpage import tables

import npt_viz
from npt_viz.figures.theme import number

DONOR, PROMPT = "the sky was green", "The capital of Germany is"


@pytest.fixture
def page(app):
    return app("transplant", prompt=DONOR, layer="3", tok="7")


@pytest.fixture(scope="module")
def opened(on_disk):
    model = npt_viz.open_model(on_disk.model)
    return model, npt_viz.open_checkpoint(on_disk.checkpoint, model)


def said(page) -> str:
    return "\n".join(each.value for each in [*page.markdown, *page.caption]).replace("\\", "")


def kl_of(found) -> str:
    return f"KL **{number(found.transplanted.kl[-1])}** nats at its end"


def test_it_opens_alone_with_the_pinned_token_as_donor(page, opened):
    assert not page.exception and not page.error
    expected = npt_viz.transplant(*opened, DONOR, PROMPT, layers=[1, 3], donor_token=7, strength=3.0)
    assert "The ΔW of `␣` #7 at `s` #24" in said(page) and kl_of(expected) in said(page)


def test_a_pinned_token_of_the_second_strip_receives(page, opened):
    page.session_state["transplant_token"] = 18
    page.selectbox(key="transplant_operation").set_value("blend")
    page.toggle(key="transplant_all_layers").set_value(False)
    page.number_input(key="transplant_strength").set_value(0.25).run()
    assert not page.exception and not page.error
    expected = npt_viz.transplant(
        *opened, DONOR, PROMPT, layers=3, donor_token=7, token=18, operation="blend", strength=0.25
    )
    assert "at `m` #18" in said(page) and kl_of(expected) in said(page)


def test_a_shorter_prompt_moves_the_receiving_token_into_it(page):
    page.session_state["transplant_token"] = 20
    page.session_state["transplant_prompt"] = "A is"
    page.run()
    assert not page.exception and not page.error
    assert "at `s` #3" in said(page)


def test_without_a_pin_the_last_token_receives_also_in_a_longer_prompt(page):
    page.session_state["transplant_prompt"] = "The capital city of Italy is"
    page.run()
    assert not page.exception and not page.error
    assert "at `s` #27" in said(page)


def test_kept_results_stand_in_a_list_and_only_once(page):
    page.button(key="transplant_keep").click().run()
    page.button(key="transplant_keep").click().run()
    page.number_input(key="transplant_strength").set_value(-1.0).run()
    page.button(key="transplant_keep").click().run()
    assert not page.exception and not page.error
    (kept,) = tables(page, "kept results")
    assert re.findall(r"replace \([^)]*\)", kept) == ["replace (-1)", "replace (3)"]
    page.button(key="transplant_clear").click().run()
    assert not tables(page, "kept results")


def test_candidates_stand_in_a_table_with_what_the_library_says(page, opened):
    (shown,) = tables(page, "next token of the receiver")
    expected = npt_viz.transplant(*opened, DONOR, PROMPT, layers=[1, 3], donor_token=7, strength=3.0)
    for row in expected.next_tokens[:8]:
        assert number(row.probability_after) in shown and number(row.probability_before) in shown


def test_the_example_pair_gives_a_fact_to_its_prompt(page):
    page.button(key="transplant_example").click().run()
    assert not page.exception
    state = page.session_state
    assert state["prompt"].startswith(state["transplant_prompt"][:11]) and state["transplant_token"] is None
    assert state["tok"] == len(state["prompt"]) - 1  # Every byte is a token here.


def test_a_prompt_that_is_too_long_is_a_sentence(page):
    page.session_state["transplant_prompt"] = "x" * 98
    page.run()
    assert "shorten it by 1" in page.error[0].value.replace("\\", "")
    assert not page.exception


def test_what_was_cleared_is_brought_back_and_a_new_session_of_the_browser_has_it(page, app):
    page.button(key="transplant_keep").click().run()
    kept = tables(page, "kept results")
    page.number_input(key="transplant_strength").set_value(2.0).run()
    page.button(key="transplant_clear").click().run()
    page.button(key="transplant_bring_back").click().run()
    assert kept and tables(page, "kept results") == kept and not page.exception
    again = app("home")
    again.session_state["_owner"] = page.session_state["_owner"]
    again.switch_page("pages/transplant.py").run()
    assert tables(again, "kept results") == kept and not again.exception
    assert again.session_state["transplant_strength"] == 2.0

"""Tokens opens alone, its controls change its numbers, and its text stays text."""

import json

import pytest
from onpage import save_variant

PROMPT = "<b>is</b> :red[x]"


def strip_of(app) -> dict:
    found = next(each for each in app.main if each.type == "bidi_component")
    return json.loads(found.proto.json)


def answer(app) -> str:
    return next(each.value for each in app.markdown if each.value.startswith("Layer "))


def test_tokens_opens_alone_on_a_prompt_that_is_inspected(app):
    page = app("tokens")
    assert not page.exception and not page.error
    assert "median and 95 % interval of" in answer(page) and "nats" in answer(page)


def test_the_address_decides_layer_token_colour_and_mode(app):
    page = app("tokens", layer="1", tok="4", metric="cosine", mode="propagated", positions="trained")
    assert page.selectbox(key="layer").value == 1
    assert page.selectbox(key="metric").value == "cosine"
    assert "propagated" in answer(page)
    assert any("token 4 of" in each.value for each in page.markdown)
    assert page.query_params["tok"] == "4" and page.query_params["mode"] == "propagated"


@pytest.mark.parametrize(
    "params", [{"mode": "sideways"}, {"tok": "x"}, {"tok": "9999"}, {"metric": "__class__"}]
)
def test_nonsense_in_the_address_is_ignored(app, params):
    page = app("tokens", **params)
    assert not page.exception and not page.error and answer(page)


def test_a_prompt_of_ones_own_is_inspected_on_submit_and_its_text_is_not_in_the_address(app):
    page = app("tokens")
    page.text_area(key="prompt").set_value(PROMPT)
    page.button(key="prompt_submit").click().run()
    assert not page.exception and not page.error
    assert any(f"of {len(PROMPT)}, layer" in each.value for each in page.markdown)
    said = json.dumps(dict(page.query_params))
    assert "is</b>" not in said and "p" in page.query_params


def test_the_reference_in_the_address_brings_a_private_prompt_back(app):
    page = app("tokens")
    page.text_area(key="prompt").set_value(PROMPT)
    page.button(key="prompt_submit").click().run()
    again = app("tokens", p=page.query_params["p"])
    assert again.text_area(key="prompt").value == PROMPT


@pytest.mark.parametrize(("prompt", "said"), [("", "is empty"), (" \n\t", "only white space")])
def test_a_prompt_that_says_nothing_is_a_sentence(app, prompt, said):
    page = app("tokens")
    page.text_area(key="prompt").set_value(prompt)
    page.button(key="prompt_submit").click().run()
    assert not page.exception
    assert said in page.error[0].value


def test_the_beginning_token_holds_at_once_and_not_only_for_the_next_prompt(app):
    page = app("tokens")
    before = len(strip_of(page)["glyphs"])
    page.selectbox(key="bos").set_value("yes").run()
    assert not page.error and len(strip_of(page)["glyphs"]) == before + 1


def test_a_pinned_layer_that_is_switched_off_is_said(app):
    home = app(on="1", layer="3")
    assert any("Layer 3 is switched off" in each.value for each in home.info)
    assert home.session_state["layer"] == 1


def test_a_prompt_longer_than_the_context_is_a_sentence(app):
    page = app("tokens", prompt="x" * 200)
    assert not page.exception
    assert "97" in page.error[0].value


def test_switching_a_layer_off_takes_it_out_of_the_run(app):
    page = app("tokens", on="3")
    assert list(page.selectbox(key="layer").options) == ["3 · N5"]
    assert "layer 3 run for real" in answer(page)


def test_choices_survive_a_visit_to_another_page(app):
    page = app("tokens", layer="1", metric="cosine", tok="2")
    page.selectbox(key="metric").set_value("relative_error").run()
    page.switch_page("pages/home.py").run()
    page.switch_page("pages/tokens.py").run()
    assert page.selectbox(key="metric").value == "relative_error"
    assert page.selectbox(key="layer").value == 1
    assert page.query_params["tok"] == "2"


@pytest.mark.parametrize("variant", ["N2", "S0", "S1-design", "S2", "T1"])
def test_every_kind_of_layer_has_a_page(app, tiny_llama, tmp_path, variant):
    page = app("tokens", checkpoint=save_variant(tmp_path / variant, tiny_llama, variant))
    assert not page.exception and not page.error
    assert variant in page.selectbox(key="layer").options[0]
    assert answer(page)


def test_the_card_has_a_dash_where_down_has_no_dot_with_h(app, tiny_llama, tmp_path):
    page = app("tokens", checkpoint=save_variant(tmp_path / "N5", tiny_llama, "N5"))
    (table,) = [frame.value for frame in page.dataframe if "v_a·h" in frame.value]
    dots = dict(zip(table["target"], table["v_a·h"], strict=True))
    assert dots["down"] == "–" and float(dots["gate"]) and not table.isna().any().any()

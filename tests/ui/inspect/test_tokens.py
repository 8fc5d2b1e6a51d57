"""Tokens opens alone, its controls change its numbers, and its text stays text."""

import json
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
import pytest
from onpage import html_tables, save_variant

from npt_viz.capture.inspection import inspect
from npt_viz.capture.opening import open_checkpoint
from npt_viz.model.opening import open_model
from npt_viz.question import Question
from npt_viz.results.words import number
from npt_viz.ui.shell import address

PROMPT = "<b>is</b> :red[x]"


def strip_of(app) -> dict:
    found = (
        json.loads(each.proto.json) for each in app.main if each.type == "bidi_component" and each.proto.json
    )
    return next(data for data in found if "glyphs" in data)


def card(app) -> str:
    return next(each.value for each in app.get("html") if 'class="npt-card-title"' in each.value)


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
    assert "token 4 of" in card(page)
    assert page.query_params["tok"] == "4" and page.query_params["mode"] == "propagated"


@pytest.mark.parametrize(
    "params", [{"mode": "sideways"}, {"tok": "x"}, {"tok": "9999"}, {"metric": "__class__"}]
)
def test_nonsense_in_the_address_is_ignored(app, params):
    page = app("tokens", **params)
    assert not page.exception and not page.error and answer(page)


def ask(page, prompt: str) -> None:
    """As the token view's box does it."""
    page.session_state["prompt"] = prompt
    page.run()


def test_a_prompt_of_ones_own_is_in_the_address_which_opens_it_again(app):
    page = app("tokens")
    ask(page, PROMPT)
    assert not page.exception and not page.error
    assert f"of {len(PROMPT)}, layer" in card(page)
    again = app("tokens", **{name: values for name, values in page.query_params.items()})
    assert again.session_state["prompt"] == PROMPT


def test_a_prompt_that_is_left_out_is_opened_by_its_reference_where_it_is_known(app):
    page = app("tokens")
    page.toggle(key="private").set_value(True).run()
    ask(page, PROMPT)
    assert "is</b>" not in json.dumps(dict(page.query_params))
    again = app("tokens", p=page.query_params["p"])
    assert again.session_state["prompt"] == PROMPT


def test_a_reference_to_a_prompt_that_is_not_here_is_said_and_drops_the_pin_that_belonged_to_it(app):
    page = app("home", p="0" * 18, tok="4")
    assert "left out of the link" in page.toast[0].value
    assert page.session_state["tok"] is None and "tok" not in page.query_params


@pytest.mark.parametrize("text", ["a short one", "naïve 東京 🙂\n" * 40, "x" * 20_000, "two words " * 100])
def test_an_address_holds_a_prompt_while_it_is_short(text):
    said = address.of_prompt(text, is_private=False)
    (name,) = said
    assert address.prompt_of(said) == text
    assert name == "prompt" if len(text) < 20 else name in ("z", "p")
    assert len(quote_plus(said[name])) <= address.LONGEST


@pytest.mark.parametrize("text", ["", "%%%", "eJw", address.packed("x" * 2_000_000), "A" * 40])
def test_a_damaged_prompt_in_an_address_is_a_sentence(text):
    with pytest.raises(address.UnknownPromptError, match="damaged"):
        address.prompt_of({"z": text})


@pytest.mark.parametrize(("prompt", "said"), [("", "is empty"), (" \n\t", "only white space")])
def test_a_prompt_that_says_nothing_is_a_sentence(app, prompt, said):
    page = app("tokens")
    ask(page, prompt)
    assert not page.exception
    assert said in page.error[0].value
    assert strip_of(page)["prompt"]["text"] == prompt, "it can be edited"


def test_the_beginning_token_holds_at_once_and_not_only_for_the_next_prompt(app):
    page = app("tokens")
    before = len(strip_of(page)["glyphs"])
    page.session_state["bos"] = "yes"
    page.run()
    assert not page.error and len(strip_of(page)["glyphs"]) == before + 1


def test_a_pinned_layer_that_is_switched_off_is_said(app):
    home = app(on="1", layer="3")
    assert any("Layer 3 is switched off" in each.value for each in home.warning)
    assert home.session_state["layer"] == 1


def test_a_prompt_longer_than_the_context_is_a_sentence(app):
    page = app("tokens", prompt="x" * 200)
    assert not page.exception
    assert "97" in page.error[0].value


def test_switching_a_layer_off_takes_it_out_of_the_run(app):
    page = app("tokens", on="3")
    assert list(page.selectbox(key="layer").options) == ["layer 3 · N5"]
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


def test_the_components_have_a_dash_where_down_has_no_dot_with_h(app, tiny_llama, tmp_path):
    page = app("tokens", checkpoint=save_variant(tmp_path / "N5", tiny_llama, "N5"))
    rows = html_tables(page)["modulation by component"]
    dots = {row["target"]: row["v_a·h"] for row in rows}
    assert dots["down"] == "–" and float(dots["gate"].replace("−", "-"))
    assert len(rows) == 3 * 2


def test_the_card_holds_each_number_against_the_median_of_the_tokens_that_are_no_sinks(app):
    page = app("tokens", layer="1", tok="4")
    run = inspect_again(page)
    rows = {row["metric"]: row for row in html_tables(page)["numbers of the token"]}
    assert len(rows) == 8
    cosines = run.layers[1].cosine
    assert rows["cosine"]["token"] == number(float(cosines[4]))
    assert rows["cosine"]["median"] == number(float(np.median(cosines[~run.is_sink])))
    assert rows["KL(base ‖ NPT)"]["token"] == number(float(run.kl[4]))
    assert 'title="Whether the output points the right way' in card(page)


def inspect_again(page):
    """The inspection behind a page, made anew."""
    model = open_model(page.session_state["model"])
    checkpoint = open_checkpoint(Path(page.session_state["checkpoint"]), model)
    return inspect(model, checkpoint, Question(prompt=page.session_state["prompt"]))


def test_the_card_lists_the_next_tokens_of_both_models_and_the_rank_before(app):
    rows = html_tables(app("tokens", tok="4"))["next token, base and NPT"]
    assert len(rows) == 5
    base = [row["base"] for row in rows]
    for rank, row in enumerate(rows, 1):
        if row["NPT"] in base:
            before = base.index(row["NPT"]) + 1
            assert row["before"] == (
                "same" if before == rank else f"{'↑' if rank < before else '↓'} {before}"
            )
        else:
            assert row["before"].startswith("↑")


def test_what_is_not_looked_at_is_not_computed(app, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("nobody looks at the gate units")

    monkeypatch.setattr("npt_viz.ui.cache.opened.token_card", refused)
    page = app("tokens", tok="4")
    assert not page.exception and not page.error
    monkeypatch.undo()
    page.session_state["card_part"] = "gate units"
    page.run()
    assert not page.exception and not page.error
    assert any("gate units that the modulation moves most" in each.value for each in page.caption)

"""Permanent update opens alone, previews the pinned token, and keeps what is applied in a ledger of the session."""

import json
import re

import pytest
from onpage import tables

import npt_viz
from npt_viz.editing.judging.preview import continuations
from npt_viz.figures.theme import number
from npt_viz.results.reconstruction import percent
from npt_viz.ui.edit.permanent_update.state import last_sentence

FACT = "The cat is blue. The cat is"


@pytest.fixture
def page(app):
    """The page on a fact, with its last token pinned."""
    return app("permanent_update", prompt=FACT, layer="3", tok="26")


@pytest.fixture(scope="module")
def opened(on_disk):
    model = npt_viz.open_model(on_disk.model)
    return model, npt_viz.open_checkpoint(on_disk.checkpoint, model)


def said(page) -> str:
    return "\n".join(each.value for each in [*page.markdown, *page.caption, *page.info]).replace("\\", "")


def clean(page):
    assert not page.exception and not page.error
    return page


def key(page, kind, name):
    return getattr(page, kind)(key=name)


def test_it_opens_alone_and_answers_with_the_librarys_numbers(page, opened):
    clean(page)
    preview = npt_viz.preview_update(*opened, FACT, 3, 26, prompt="The cat is")
    assert f"KL **{number(preview.kl)}** nats" in said(page)
    assert f"recovers **{percent(preview.recovery.recovered)}** of what the context does" in said(page)
    assert "`s` #26 into layer 3 at α = 1" in said(page)


def test_strength_rule_tokens_and_layers_reach_the_preview(page, opened):
    key(page, "selectbox", "edit_rule").set_value("minimum_norm")
    key(page, "selectbox", "edit_tokens").set_value("several")
    key(page, "toggle", "edit_all_layers").set_value(True)
    key(page, "number_input", "edit_alpha").set_value(-2.5).run()
    key(page, "multiselect", "edit_several").set_value([4, 9]).run()
    clean(page)
    preview = npt_viz.preview_update(
        *opened, FACT, [1, 3], [4, 9], -2.5, prompt="The cat is", rule=npt_viz.UpdateRule(name="minimum_norm")
    )
    assert f"KL **{number(preview.kl)}** nats" in said(page) and "into layers 1, 3 at α = -2.5" in said(page)


def test_double_counting_is_named_beside_npt_on(page):
    (shown,) = tables(view(page, "NPT on and off"), "NPT on and off")
    assert re.findall(r"NPT o[nf]+, [a-z]+", shown) == [
        "NPT off, before",
        "NPT off, after",
        "NPT on, before",
        "NPT on, after",
    ]
    assert any("counts twice" in (each.help or "") for each in page.markdown)


def test_what_both_sides_write_is_that_of_the_library(page, opened):
    view(page, "What both sides write")
    if [each for each in page.button if each.key == "edit_continuations_run"]:
        key(page, "button", "edit_continuations_run").click().run()
    clean(page)
    update = npt_viz.preview_update(*opened, FACT, 3, 26).update
    expected = continuations(opened[0], [], [update], "The cat is", tokens=32, seed=0)
    shown = [each.value for each in page.main.code]
    assert [each.text for each in expected] == shown
    assert len(set(shown)) > 2


def test_applied_updates_are_listed_on_every_page_and_undone_in_any_order(page, opened):
    model = opened[0]
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    key(page, "button", "edit_apply").click().run()
    key(page, "number_input", "edit_alpha").set_value(3.0).run()
    key(page, "button", "edit_apply").click().run()
    clean(page)
    assert "#1: npt, layer 3, token s #26, α = 1" in said(page) and "#2: npt" in said(page)
    page.switch_page("pages/tokens.py").run()
    clean(page)
    assert "α = 3, from “The cat is blue. The cat is”" in said(page)
    key(page, "button", "ledger_undo_1").click().run()
    assert "#1:" not in said(page) and "#2: npt" in said(page)
    key(page, "button", "ledger_undo_2").click().run()
    assert "#2:" not in said(clean(page))
    for name, tensor in model.hf.state_dict().items():
        assert tensor.equal(before[name])


def test_previews_are_on_top_of_the_ledger(page, opened):
    assert "in the ledger already" not in said(page)
    key(page, "button", "edit_apply").click().run()
    assert "It is in the ledger already (#1)" in said(page)
    ledger = npt_viz.Ledger(opened[0])
    first = npt_viz.preview_update(*opened, FACT, 3, 26, prompt="The cat is")
    first.apply_to(ledger)
    second = npt_viz.preview_update(*opened, FACT, 3, 26, prompt="The cat is", ledger=ledger)
    assert f"KL **{number(second.kl)}** nats" in said(clean(page))
    assert number(first.kl) != number(second.kl)


def test_a_fact_fills_the_page(page):
    key(page, "selectbox", "edit_fact").set_value("Bees make").run()
    clean(page)
    state = page.session_state
    assert state["prompt"] == "Bees make silk. Bees make" and state["edit_new"] == " silk"
    assert state["tok"] == len("Bees make silk. Bees make") - 1  # Every byte is a token here.
    assert "In their hives, bees make" in state["edit_paraphrases"]
    # The first token of " silk" is a space here; it is listed wherever it ranks.
    (shown,) = tables(page, "next token, before and after")
    assert '<td class="code">␣</td>' in shown


def view(page, name):
    return key(page, "button_group", "edit_view").set_value(name).run()


def test_the_scorecard_counts_the_facts_prompts(page):
    key(page, "selectbox", "edit_fact").set_value("Bees make").run()
    view(page, "Scorecard")
    if [each for each in page.button if each.key == "edit_scorecard_run"]:
        key(page, "button", "edit_scorecard_run").click().run()
    clean(page)
    table = next(each.value for each in page.dataframe if "part" in each.value)
    assert list(table["part"].value_counts().sort_index().items()) == [
        ("generalisation", 2),
        ("locality", 8),
        ("reliability", 1),
    ]
    assert "Wilson" in said(page)


def test_the_edited_prompt_is_not_asked_to_stay_as_it_is(page):
    key(page, "selectbox", "edit_fact").set_value("Bees make").run()
    page.session_state["edit_unrelated"] = "Bees make\nTwo plus two equals"
    view(page, "Scorecard")
    if [each for each in page.button if each.key == "edit_scorecard_run"]:
        key(page, "button", "edit_scorecard_run").click().run()
    clean(page)
    table = next(each.value for each in page.dataframe if "part" in each.value)
    assert (table["part"] == "locality").sum() == 1


def test_without_what_should_follow_the_scorecard_asks_for_it(page):
    view(page, "Scorecard")
    assert "say what should follow the prompt" in page.error[0].value.replace("\\", "")
    key(page, "button", "edit_apply").click().run()  # The rest of the page still works.
    assert "#1: npt, layer 3" in said(page)


def test_a_clicked_strength_is_taken(page):
    key(page, "selectbox", "edit_fact").set_value("Bees make").run()
    if [each for each in page.button if each.key == "edit_sweep_run"]:
        key(page, "button", "edit_sweep_run").click().run()
    clean(page)
    assert "begin with the same token" in said(page)  # A byte tokenizer: both begin with a space.
    figures = [json.loads(each.proto.spec) for each in page.get("plotly_chart")]
    assert [len(figure["data"]) for figure in figures] == [4]


def test_without_a_fact_the_sweep_asks_for_what_the_context_makes_the_model_say(page, opened):
    if [each for each in page.button if each.key == "edit_sweep_run"]:
        key(page, "button", "edit_sweep_run").click().run()
    preview = npt_viz.preview_update(*opened, FACT, 3, 26, prompt="The cat is")
    before = preview.before.next_tokens[0][0]
    assert f"is more probable than `{before}`" in said(clean(page))
    assert f"`{before}` is more probable" not in said(page), "what it says already is no effect"


def test_nothing_is_looked_at_closer_until_it_is_chosen(page):
    assert key(page, "button_group", "edit_view").value is None
    assert not page.dataframe and "edit_import" not in [each.key for each in page.file_uploader]


def test_the_weights_view_shows_every_dtype(page):
    view(page, "In the weights")
    table = next(each.value for each in clean(page).dataframe if "dtype" in each.value)
    assert list(table["dtype"]) == ["float32", "bfloat16", "float16"] * 3  # gate, up and down
    assert set(table["finite"]) == {"yes"}


def test_an_export_from_the_page_is_whole(page, tmp_path, opened):
    key(page, "button", "edit_apply").click().run()
    page.session_state["edit_export_box"] = page.session_state["edit_import_box"] = True
    page.run()
    key(page, "selectbox", "edit_kind").set_value("recipe").run()
    key(page, "text_input", "edit_folder").set_value(str(tmp_path / "out"))
    key(page, "button", "edit_write").click().run()
    clean(page)
    (update,) = npt_viz.updates_from_recipe(tmp_path / "out", opened[0])
    assert update.layers == (3,) and update.alpha == 1.0
    key(page, "button", "edit_write").click().run()
    assert "exists already" in page.error[0].value.replace("\\", "")
    assert key(page, "file_uploader", "edit_import")  # What comes after the refused export is still there.


def test_a_recipe_comes_back_and_a_damaged_one_changes_nothing(page, tmp_path, opened):
    ledger = npt_viz.Ledger(opened[0])
    npt_viz.preview_update(*opened, FACT, [1, 3], alpha=0.25).apply_to(ledger)
    ledger.export(tmp_path / "out", "recipe")
    content = (tmp_path / "out" / "npt_edits.json").read_bytes()
    page.session_state["edit_import_box"] = True
    page.run()
    uploader = key(page, "file_uploader", "edit_import")
    uploader.set_value(("edits.json", content, "application/json")).run()
    key(page, "button", "edit_import_add").click().run()
    clean(page)
    assert "#1: npt, layers 1, 3" in said(page) and "1 edit added." in said(page)
    damaged = content.replace(b'"alpha": 0.25', b'"alpha": 25.0')
    key(page, "file_uploader", "edit_import").set_value(("edits.json", damaged, "application/json")).run()
    key(page, "button", "edit_import_add").click().run()
    assert "was changed after it was saved" in page.error[0].value.replace("\\", "")
    assert "#1: npt, layers 1, 3" in said(page) and "#2:" not in said(page)


def test_the_question_without_its_context_is_the_last_sentence():
    assert last_sentence("A is B. C is D. A is") == "A is"
    assert last_sentence("no stop here") == "no stop here"
    assert last_sentence("ends with one. ") == "ends with one. "

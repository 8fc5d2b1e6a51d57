"""The Training page: its plan, its buttons, its curves, and what it says to bad input."""

import fnmatch
import json
import time
from dataclasses import fields
from functools import partial

import pytest
import torch
from onpage import html_tables, opener

from npt_viz import open_checkpoint
from npt_viz.runs import read_run
from npt_viz.training.recipe import FRESH_TARGETS, FRESH_VARIANT, TOKENS, WINDOW, Recipe
from npt_viz.training.settings import SETTINGS
from npt_viz.ui.train import job, panels, panels_result
from npt_viz.ui.train.job import TrainingSlot

TEXT = " ".join(f"sentence {i} about the number {i * 37 % 101} and nothing else" for i in range(60))


WANTED = {
    "training_text": "pasted",
    "training_pasted": TEXT,
    "training_rank": 5,
    "training_steps": 30,
    "training_every": 10,
    "training_warmup": 5,
    "training_batch": 32,
}


def opened(app, query=(), **values):
    """The page with a small text pasted and a small adapter."""
    found = app("training", **dict(query))
    assert not found.exception
    for key, value in (WANTED | values).items():
        found.session_state[key] = value
    return found.run()


@pytest.fixture
def page(app, monkeypatch):
    # Here, so that a test can look into it from outside the session.
    slot = TrainingSlot()
    monkeypatch.setattr("npt_viz.ui.train.job.training_slot", lambda: slot)
    yield partial(opened, app)
    slot.end()


@pytest.fixture(scope="module")
def shared_page(on_disk):
    """One page for tests that start nothing and put their values back."""
    with pytest.MonkeyPatch.context() as patched:
        slot = TrainingSlot()
        patched.setattr("npt_viz.ui.train.job.training_slot", lambda: slot)
        yield opened(opener(on_disk))


def errors(page) -> str:
    return " ".join(each.value for each in page.error).replace("\\", "")


def save(page, folder):
    page.text_input(key="training_folder").set_value(str(folder)).run()
    page.button(key="training_save").click().run()
    assert any("Saved in" in each.value for each in page.success), errors(page)


def until(page, words, seconds=120):
    """Wait until the job's status has these words, and draw the page once."""
    deadline = time.monotonic() + seconds
    # Asked here and not of the page: drawing it again and again is most of what such a test would cost.
    while words not in panels.status(job.training_slot().job.snapshot()):
        assert time.monotonic() < deadline, job.training_slot().job.snapshot()
        time.sleep(0.02)
    page.run()
    assert any(words in bar.proto.text for bar in page.get("progress"))
    return page


def test_the_page_says_what_it_would_train_on_what(page):
    found = page()
    assert not found.exception and not found.error
    said = " ".join(each.value for each in found.caption)
    assert "Layer 2 · direct robust · " in said and "held out" in said
    assert "Estimate: the capture takes 0.0 GB and about 1 s" in said.replace("\\", "")
    assert not found.button(key="training_start").disabled and found.button(key="training_stop").disabled


def test_start_trains_draws_and_answers(page):
    found = page()
    found.button(key="training_start").click().run()
    until(found, "finished after 30 of 30 steps")
    answer = next(each.value for each in found.markdown if "; the loss of the batch went" in each.value)
    assert answer.startswith("After 30 steps ") and "held-out token" in answer and "layer 2" in answer
    charts = [json.loads(each.proto.spec) for each in found.get("plotly_chart")]
    assert len(charts) == 6, "without shares and cosines, which one loss has not"
    losses = next(chart for chart in charts if chart["data"] and chart["data"][0]["name"] == "direct robust")
    assert losses["data"][0]["x"] is not None
    assert not found.button(key="training_start").disabled and not found.exception


def test_with_two_losses_shares_and_cosines_are_drawn(page):
    found = page(training_on_strength=True)
    found.button(key="training_start").click().run()
    until(found, "finished")
    assert len(found.get("plotly_chart")) == 8


def test_one_step_begins_a_training_that_waits(page):
    found = page()
    found.button(key="training_one").click().run()
    until(found, "paused after 1 of 30 steps")
    found.button(key="training_one").click().run()
    until(found, "paused after 2 of 30 steps")
    assert found.button(key="training_pause").label == "Go on"
    found.button(key="training_pause").click().run()
    until(found, "finished")


def test_stop_and_reset(page):
    found = page(training_steps=100_000)
    found.button(key="training_start").click().run()
    until(found, "a second")
    found.button(key="training_stop").click().run()
    until(found, "stopped after")
    found.button(key="training_reset").click().run()
    assert not found.get("progress") and any("press Start" in each.value for each in found.info)
    found.button(key="training_bring_back").click().run()
    assert any("stopped after" in bar.proto.text for bar in found.get("progress"))


NO_SETTINGS = {"training_from", "training_folder"}
"""Where a training begins and where it is saved, which `--from`, `--resume` and `--out` say."""


def keys(page) -> set[str]:
    """Keys of the widgets of the page that hold a value."""
    kinds = ("number_input", "selectbox", "toggle", "text_input", "text_area", "multiselect", "file_uploader")
    drawn = [each.key for kind in kinds for each in page.get(kind)]
    drawn += [each.key for each in page.get("button_group")]
    return {key for key in drawn if key and key.startswith("training_")}


def test_the_page_has_every_setting_of_the_command_and_no_other(page):
    found = page(training_on_direct=True)
    found.button(key="training_one").click().run()
    until(found, "paused after 1 of 30 steps")
    drawn = keys(found)
    for kind in ("bundled sample", "file", "sampled from the base"):
        found.session_state["training_text"] = kind
        drawn |= keys(found.run())
    wanted = {key for setting in SETTINGS.values() for key in setting.widgets}
    for pattern in wanted - {"positions"}:
        assert fnmatch.filter(drawn, pattern), f"no widget {pattern}"
    for key in drawn - NO_SETTINGS:
        assert any(fnmatch.fnmatch(key, pattern) for pattern in wanted), f"{key} is no setting of the command"


def test_the_defaults_of_the_page_are_those_of_the_library(app):
    found = app("training")
    state = found.session_state
    for each in fields(Recipe):
        (key,) = SETTINGS[each.name].widgets
        if each.name not in ("evaluate_every", "positions", "autocast"):
            assert state[key] == each.default, key
    assert state["training_autocast"] == "auto" and state["training_every"] < Recipe.evaluate_every, (
        "it is watched"
    )
    assert (state["training_tokens"], state["training_window"]) == (TOKENS, WINDOW)
    assert (state["training_variant"], state["training_targets"]) == (FRESH_VARIANT, list(FRESH_TARGETS))


def choose(page, variant):
    return page.selectbox(key="training_variant").select(variant).run()


def test_a_variant_sets_what_it_decides_and_greys_the_losses_it_cannot_have(page):
    found = choose(page(training_on_guidance=True, training_on_update_norm=True), "S1-early")
    assert not found.exception and not found.error, "what is grey is left out"
    assert found.session_state["training_targets"] == ["gate"]
    grey = {each.key for each in found.toggle if each.disabled}
    assert {"training_on_guidance", "training_on_consistency"} <= grey
    assert "training_on_update_norm" not in grey and "training_on_direct" not in grey
    assert found.number_input(key="training_components").disabled
    said = " ".join(each.value for each in found.caption)
    helps = " ".join(each.help or "" for each in found.toggle)
    assert "Off:** an additive adapter has no v" in helps and "Here: mean Σ δ²" in helps
    assert "Layer 2 · direct robust, update norm · " in said.replace("\\", "")
    found = choose(found, "N5")
    assert found.session_state["training_targets"] == ["gate", "up", "down"]
    assert not {each.key for each in found.toggle if each.disabled} & grey
    assert "guidance" in next(each.value for each in found.caption if "direct robust, " in each.value)


@pytest.mark.parametrize("variant", ["S1-early", "T1", "S2"])
def test_a_variant_is_trained_from_the_page(page, variant):
    found = choose(page(), variant)
    found.button(key="training_start").click().run()
    until(found, "finished after 30 of 30 steps")
    (adapter,) = job.training_slot().job.training.adapters.values()
    assert adapter.variant == variant
    drawn = len(found.get("plotly_chart"))
    assert drawn == (4 if variant == "S1-early" else 6), "no empty panel of a scalar that is not there"


def test_a_target_that_is_already_met_is_said_before_start(page):
    found = choose(page(), "S1-early+residual")
    assert "there is nothing to learn; choose a variant" in errors(found)
    assert found.button(key="training_start").disabled


@pytest.mark.slow
def test_leaving_the_page_and_coming_back_keeps_the_training(page):
    found = page(training_steps=100_000)
    found.button(key="training_start").click().run()
    until(found, "a second")
    found.switch_page("pages/tokens.py").run()
    assert not found.exception
    found.switch_page("pages/training.py").run()
    assert any("of 100,000" in bar.proto.text for bar in found.get("progress"))
    assert found.number_input(key="training_steps").value == 100_000, "and so are the controls"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"training_on_direct_robust": False}, "no loss is active"),
        ({"training_weight_direct_robust": 0.0}, "no loss is active"),
        ({"training_rank": 25}, "rank 25 is more than d_model 24"),
        ({"training_targets": []}, "no target is named"),
        ({"training_pasted": "   "}, "there is no text yet"),
        ({"training_pasted": "short"}, "too short to hold some back"),
        ({"training_text": "file"}, "no file was chosen yet"),
        ({"training_rate": 0.0}, "learning_rate must lie between 0 and 10"),
        (
            {"training_on_orthogonality": True, "training_form_orthogonality": "as_written"},
            "orthogonality as written cannot run",
        ),
        ({"training_curriculum": True, "training_easy": 900, "training_medium": 800}, "steps must rise"),
    ],
)
def test_bad_input_is_a_sentence_and_start_is_off(shared_page, values, sentence):
    before = {key: shared_page.session_state[key] for key in values}
    for key, value in values.items():
        shared_page.session_state[key] = value
    shared_page.run()
    assert sentence in errors(shared_page) and not shared_page.exception
    assert shared_page.button(key="training_start").disabled
    for key, value in before.items():
        shared_page.session_state[key] = value


@pytest.mark.slow
def test_a_learning_rate_that_explodes_is_a_sentence_and_the_page_goes_on(page):
    found = page(training_rate=9.9, training_clip=1e9, training_warmup=0, training_steps=5000)
    found.button(key="training_start").click().run()
    until(found, "failed after")
    assert "lower the learning rate" in errors(found)
    assert not found.button(key="training_start").disabled


def test_a_preset_sets_every_toggle(page):
    found = page()
    found.selectbox(key="training_preset").select("published composite").run()
    assert found.toggle(key="training_on_guidance").value and found.toggle(key="training_staged").value
    assert found.number_input(key="training_weight_direct").value == 10
    assert any("the layers above run at every step" in each.value for each in found.caption)


def test_the_result_is_saved_and_opens_again(page, tmp_path):
    found = page()
    found.button(key="training_start").click().run()
    until(found, "finished")
    save(found, tmp_path / "mine")
    opened = open_checkpoint(tmp_path / "mine")
    assert opened.layers == (2,) and opened.config["recipe"]["steps_taken"] == 30
    assert opened.config["figures"]["heldout"]["2"]["n_tokens"] > 0
    run = read_run(tmp_path / "mine")
    assert list(run.layers) == [2] and len(run.layers[2].steps) == 30, "the Runs page reads its record"


@pytest.mark.slow
def test_a_saved_training_goes_on_as_if_it_had_not_been_stopped(page, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = page()
    found.button(key="training_start").click().run()
    until(found, "finished after 30 of 30")
    save(found, whole)
    found.button(key="training_one").click().run()
    until(found, "paused after 1 of 30")
    save(found, parts)
    found.button(key="training_reset").click().run()

    found = page({"checkpoint": str(parts)})
    assert any("parts was saved after 1 of 30 steps" in each.value for each in found.caption)
    found.button(key="training_resume").click().run()
    until(found, "finished after 30 of 30")
    again = tmp_path / "again"
    save(found, again)
    first, second = (open_checkpoint(folder).adapter(2).state_dict() for folder in (whole, again))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert len(read_run(again).layers[2].steps) == 30, "its record has the first step too"


def test_a_resumed_training_keeps_what_its_checkpoint_states(page, tmp_path):
    found = page(training_steps=2)
    found.button(key="training_start").click().run()
    until(found, "finished after 2 of 2")
    found.text_input(key="training_licence").set_value("CC-BY-4.0")
    found.text_input(key="training_fault").set_value("no rope on purpose")
    found.selectbox(key="training_stored").select("bfloat16")
    save(found, tmp_path / "stated")
    found.button(key="training_reset").click().run()

    found = page({"checkpoint": str(tmp_path / "stated")})
    found.button(key="training_resume").click().run()
    until(found, "finished after 4 of 4")
    save(found, tmp_path / "again")
    again = open_checkpoint(tmp_path / "again")
    assert (again.config["licence"], again.config["fault"]) == ("CC-BY-4.0", "no rope on purpose")
    assert again.report.layers[0].dtype == "bfloat16" and again.config["recipe"]["steps_taken"] == 4


def test_a_finished_training_goes_on_with_more_steps(page, tmp_path):
    found = page(training_steps=4)
    found.button(key="training_start").click().run()
    until(found, "finished after 4 of 4")
    save(found, tmp_path / "mine")
    found.number_input(key="training_in_all_4_4").set_value(6).run()
    found.button(key="training_resume").click().run()
    until(found, "finished after 6 of 6")
    assert not found.exception and not found.error


def test_a_full_disk_is_a_sentence_and_the_training_stays(page, tmp_path, monkeypatch):
    found = page()
    found.button(key="training_start").click().run()
    until(found, "finished")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npt_viz.checkpoint.saving.save_file", full)
    found.text_input(key="training_folder").set_value(str(tmp_path / "mine")).run()
    found.button(key="training_save").click().run()
    assert "No space left on device" in errors(found) and not (tmp_path / "mine").exists()
    assert any("finished" in bar.proto.text for bar in found.get("progress"))


@pytest.mark.slow
def test_the_result_opens_in_the_other_pages_while_it_trains(page):
    found = page(training_steps=100_000)
    found.button(key="training_start").click().run()
    until(found, "a second")
    found.button(key="training_open").click().run()
    assert "-2-step-" in found.session_state["checkpoint"], errors(found)
    found.switch_page("pages/tokens.py").run()
    assert not found.exception and not found.error
    assert any(each.value.startswith("Layer 2 ") for each in found.markdown)


@pytest.mark.slow
def test_the_pinned_token_before_and_after(page):
    found = page()
    found.button(key="training_start").click().run()
    until(found, "finished")
    found.session_state["tok"] = 4
    found.button(key="training_look").click().run()
    table = html_tables(found)["token before and after"]
    assert list(table[0]) == ["layer", "what", "before", "after"]
    (recovered,) = (row for row in table if row["what"] == panels_result.ROWS["recovered"])
    assert recovered["before"] in ("0", "−0") or abs(float(recovered["before"].replace("−", "-"))) < 1e-4
    assert any(each.value.startswith("Token 4, ") for each in found.markdown)


@pytest.mark.slow
def test_going_on_from_the_open_checkpoint_and_from_the_result(page):
    found = page(training_from="the open checkpoint")
    found.button(key="training_start").click().run()
    until(found, "finished")
    found.session_state["training_from"] = "the result so far"
    found.run()
    found.button(key="training_start").click().run()
    until(found, "finished")
    assert not found.exception and not found.error


def test_a_new_session_of_the_browser_finds_set_up_text_and_training(page, app, tmp_path):
    text = "\n".join(
        json.dumps({"text": f"text {i} about {i * 37 % 101} and nothing else at all"}) for i in range(40)
    )
    found = page(training_rank=7, training_text="file", training_on_strength=True, training_rate=0.002)
    found.file_uploader(key="training_file").set_value(
        ("mine.jsonl", text.encode(), "application/json")
    ).run()
    assert not found.error, errors(found)
    wanted = next(each.value for each in found.caption if "held out" in each.value)
    found.button(key="training_start").click().run()
    until(found, "finished after 30 of 30")

    again = app("home")
    again.session_state["_owner"] = found.session_state["_owner"]
    again.switch_page("pages/training.py").run()
    assert not again.exception and not again.error, errors(again)
    state = again.session_state
    assert (state["training_rank"], state["training_rate"], state["training_steps"]) == (7, 0.002, 30)
    assert (
        state["training_on_strength"] and state["training_on_direct_robust"] and not state["training_on_kl"]
    )
    said = [each.value.replace("\\", "") for each in again.caption]
    assert wanted.replace("\\", "") in said and any(
        "Uploaded before, and used: mine" in each for each in said
    )
    assert any("layer 2, " in each and "was saved after 30 of 30 steps" in each for each in said)
    again.button(key="training_open_saved").click().run()
    assert again.session_state["checkpoint"].endswith("-2-step-30"), errors(again)
    again.switch_page("pages/tokens.py").run()
    assert not again.exception and any(each.value.startswith("Layer 2 ") for each in again.markdown)

"""The Experiments page: arms from presets, a run with its results, saved ones reopened, bad input."""

import json
import time

import pytest

from npt_viz.ui.experiments import job, panels
from npt_viz.ui.experiments.job import ExperimentJob, ExperimentSlot

TEXT = " ".join(f"sentence {i} about the number {i * 37 % 101} and nothing else" for i in range(60))


@pytest.fixture
def page(app, monkeypatch, tmp_path):
    # Here, so that a test can look into it from outside the session.
    slot = ExperimentSlot()
    monkeypatch.setattr("npt_viz.ui.experiments.job.experiment_slot", lambda: slot)
    for module in (job, panels):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")

    def opened(**values):
        found = app("experiments")
        assert not found.exception
        wanted = {
            "training_text": "pasted", "training_pasted": TEXT, "training_rank": 5, "training_warmup": 5,
            "training_batch": 32, "experiment_steps": 8, "experiment_name": "My First!",
        }  # fmt: skip
        for key, value in (wanted | values).items():
            found.session_state[key] = value
        return found.run()

    opened.slot = slot
    yield opened
    slot.end()


def errors(page) -> str:
    return " ".join(each.value for each in page.error).replace("\\", "")


def finished(page, slot, seconds=180):
    deadline = time.monotonic() + seconds
    while slot.is_active:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert slot.job.snapshot().state == "finished", slot.job.snapshot()
    return page.run()


def charts(page) -> dict[str, dict]:
    return [json.loads(each.proto.spec) for each in page.get("plotly_chart")]


@pytest.mark.slow
def test_arms_are_trained_shown_and_reopened(page, tmp_path, app):
    found = page()
    assert not found.error
    found.button(key="experiment_start").click().run()
    assert not found.exception
    found = finished(found, page.slot)
    assert not found.exception and not found.error
    said = " ".join(each.value for each in found.markdown).replace("\\", "")
    assert "Share recovered: the reference 'direct alone' has" in said and "over 2 seeds" in said
    table = next(each.value for each in found.dataframe if "verdict" in each.value.columns)
    assert list(table["arm"]) == ["direct alone", "direct, robust to sinks"]
    assert list(table["seeds"]) == ["2 of 2", "2 of 2"]
    assert len(charts(found)) == 3
    folder = tmp_path / "runs" / "my-first"
    assert (folder / "direct-alone" / "seed-1" / "checkpoint" / "npt_config.json").is_file()

    page.slot.job = None
    again = page(experiment=str(folder))
    said = " ".join(each.value for each in again.markdown).replace("\\", "")
    assert "Share recovered: the reference 'direct alone' has" in said and not again.exception


def test_a_preset_fills_the_table_with_as_many_arms_as_a_page_shows(page):
    found = page()
    found.selectbox(key="experiment_preset").select("each loss alone").run()
    rows = found.session_state["experiment_rows"]
    assert len(rows) == 8 and rows["losses"][0] == "direct=1"
    assert any("Not taken" in each.value and "kl" not in rows["name"] for each in found.caption)
    assert found.selectbox(key="experiment_reference").value == "direct"
    found.selectbox(key="experiment_preset").select("published phases 1–4").run()
    assert len(found.session_state["experiment_rows"]) == 5 and not found.error


@pytest.mark.parametrize(
    "values, message",
    [
        ({"experiment_name": "…"}, "no name"),
        ({"training_rank": 500}, "rank 500 is more than"),
        ({"training_pasted": " "}, "there is no text yet"),
        ({"training_text": "sampled from the base"}, "needs a text that is there"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_can_start(page, values, message):
    found = page(**values)
    assert not found.exception and message in errors(found)
    assert found.button(key="experiment_start").disabled


def test_a_row_that_cannot_be_is_named(page):
    found = page()
    for version, (losses, reason) in enumerate(
        {
            "magic=1": "loss 'magic' does not exist",
            "direct=1,direct=5": "loss 'direct' is named twice",
            "direct=much": "losses: 'direct=much' must be NAME=WEIGHT",
            "direct=nan": "the weight of loss 'direct' must be 0 or more and finite, got nan",
        }.items()
    ):
        rows = found.session_state["experiment_rows"].copy()
        rows.loc[1, "losses"] = losses
        found.session_state["experiment_rows"] = rows
        found.session_state["experiment_version"] = 7 + version
        found.run()
        assert f"arm 'direct, robust to sinks': {reason}" in errors(found)


def test_stop_answers_within_a_step_and_errors_are_sentences(tmp_path):
    def endless(progress):
        while True:
            time.sleep(0.01)
            yield 0.5

    job = ExperimentJob(tmp_path, endless).start()
    job.stop()
    job.wait(10)
    assert job.snapshot().state == "stopped" and not job.is_active

    def broken(progress):
        yield 0.1
        raise RuntimeError("<secret>")

    job = ExperimentJob(tmp_path, broken).start()
    job.wait(10)
    assert job.snapshot().state == "failed" and "<secret>" not in job.snapshot().error

    def preparing(progress):
        while True:
            time.sleep(0.01)
            progress("capturing", 0.3)
        yield 0.0

    job = ExperimentJob(tmp_path, preparing).start()
    job.stop()
    job.wait(10)
    assert job.snapshot().state == "stopped"

"""The Experiments page: arms from presets, a run with its results, saved ones reopened, bad input."""

import json
import re
import time

import pytest
from onpage import tables

from npt_viz.experiments.reading import read_experiment
from npt_viz.figures.theme import number
from npt_viz.places import ROOT
from npt_viz.results.sentences.experiments import experiment as sentence_of
from npt_viz.training.losses import TERMS
from npt_viz.ui.experiments import job
from npt_viz.ui.experiments.job import ExperimentJob, ExperimentSlot
from npt_viz.ui.shell.recording import Recording
from npt_viz.workspace.entry import Entry

TEXT = " ".join(f"sentence {i} about the number {i * 37 % 101} and nothing else" for i in range(60))


@pytest.fixture
def page(app, monkeypatch, tmp_path):
    # Here, so that a test can look into it from outside the session.
    slot = ExperimentSlot()
    monkeypatch.setattr("npt_viz.ui.experiments.job.experiment_slot", lambda: slot)
    monkeypatch.setattr(job, "RUNS", tmp_path / "runs")

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
    (table,) = tables(found, "arms")
    assert re.findall("direct alone|direct, robust to sinks|2 of 2", table) == [
        "direct alone",
        "2 of 2",
        "direct, robust to sinks",
        "2 of 2",
    ]
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
    losses = list(TERMS)
    assert len(rows) == 8
    assert [[loss for loss in losses if row[loss]] for _, row in rows.iterrows()] == [
        [loss] for loss in losses[:8]
    ]
    assert any("Not taken" in each.value and losses[8] in each.value for each in found.caption)
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
    for version, (cells, reason) in enumerate(
        (
            ({"direct_robust": False}, "arm 'direct, robust to sinks' has no loss; switch at least one on"),
            ({"name": ""}, "the arm with direct_robust has no name"),
            ({"weight of direct_robust": -1.0}, "the weight of loss 'direct_robust' must be 0 or more"),
            ({"weight of direct_robust": 0.0}, "no loss is active"),
            ({"gradient ×": 0.0}, "gradient_scale must be above 0"),
        )
    ):
        rows = found.session_state["experiment_rows"].copy()
        before = rows.loc[1, list(cells)].copy()
        rows.loc[1, list(cells)] = list(cells.values())
        found.session_state["experiment_rows"] = rows.copy()
        found.session_state["experiment_version"] = 7 + 2 * version
        found.run()
        assert reason in errors(found)
        rows.loc[1, list(cells)] = before
        found.session_state["experiment_rows"] = rows
        found.session_state["experiment_version"] = 8 + 2 * version


def test_arms_survive_the_table(app):
    from npt_viz.experiments.plan import Arm
    from npt_viz.training.losses import Curriculum, Objective
    from npt_viz.ui.experiments import controls_arms

    objective = Objective(
        weights={"direct": 10.0, "kl": 0.25, "orthogonality": 3.0},
        as_written=frozenset({"direct"}),
        stage_steps=7,
        adaptive="gradient_norms",
        curriculum=Curriculum(),
        gradient_scale=0.5,
    )
    arm = Arm(name="all of it", losses=objective, changes={"learning_rate": 0.125})
    (row,) = controls_arms.rows_of([arm]).to_dict("records")
    assert controls_arms._arm(row) == arm


def test_without_an_experiment_of_ones_own_the_shipped_one_is_shown(page, app):
    found = page()
    assert found.session_state["experiment"] == "demos/three-losses" and not found.error
    said = " ".join(each.value for each in found.markdown).replace("\\", "")
    assert "Share recovered: the reference 'direct' has" in said and "over 3 seeds" in said
    (table,) = tables(found, "arms")
    shipped = read_experiment(ROOT / "demos/three-losses")
    compared = shipped.comparisons("recovered")
    assert all(number(each.mean) in table for each in compared)
    assert {"better", "worse"} & {each.verdict for each in compared}, "an example that shows something"
    assert not found.exception


def test_what_is_set_up_is_estimated_before_start(page):
    said = " ".join(each.value for each in page().caption).replace("\\", "")
    assert "2 arms × 2 seeds × 8 steps. Estimate: the capture takes 0.0 GB and about 1 s" in said


def test_an_experiment_is_in_the_history_as_it_ended():
    kept = []
    entry = Entry(key="k", time=0.0, kind="experiment", page="experiments", title="t", sentence="none yet")
    recording = Recording(entry, True, lambda entry, numbers: kept.append(entry))
    folder = ROOT / "demos/three-losses"
    ExperimentJob(folder, lambda progress: (yield 1.0), recording=recording).start().wait(30)
    (last,) = kept
    assert last.sentence == str(sentence_of(read_experiment(folder))) and "<path fill" in last.thumbnail


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

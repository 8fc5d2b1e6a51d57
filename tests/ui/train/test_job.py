"""A training in a thread: it pauses, steps, stops and fails as a page needs it, and is saved in the workspace."""

import shutil
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import tiny_model

import npt_viz
from npt_viz.errors import NptVizError
from npt_viz.results.sentences.training import training as sentence_of
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.state import resumed, steps_saved
from npt_viz.training.trainer import train
from npt_viz.ui.shell.recording import Recording
from npt_viz.ui.train.job import Place, TrainingJob, TrainingSlot
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.trainings import record_of

TEXTS = [f"text number {i} of {i * 7 % 13} and more of it, so that it is long enough" for i in range(8)]
SPEC = AdapterSpec(layers=(2,), rank=5)


def beginning(model, **settings):
    def begin(progress):
        return train(
            model,
            SPEC,
            TEXTS,
            "direct",
            **{"batch_tokens": 16, "steps": 1_000_000} | settings,
            progress=progress,
        )

    return begin


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def job(tiny_llama):
    jobs = []

    def made(paused=False, **settings):
        jobs.append(TrainingJob(beginning(tiny_llama, **settings), paused=paused).start())
        return jobs[-1]

    yield made
    for each in jobs:
        each.stop()
        each.wait()


def test_a_training_is_in_the_history_as_it_was_saved_last(tiny_llama, tmp_path):
    kept = []
    entry = Entry(
        key="k", time=0.0, kind="training", page="training", title="training", sentence="", folder="f"
    )
    recording = Recording(entry, True, lambda entry, numbers: kept.append(entry))
    place = Place(tmp_path / "t", (), lambda *_: None, lambda _: None)
    made = TrainingJob(beginning(tiny_llama, steps=6), place=place, recording=recording).start()
    made.wait()
    last = kept[-1]
    assert last.title == "layer 2, direct: finished, step 6 of 6" and last.folder == "f" and last.time > 1e9
    assert last.sentence == str(sentence_of(made.history)) and "<polyline" in last.thumbnail


def test_a_job_runs_to_its_end_and_keeps_every_step(job):
    made = job(steps=5)
    until(lambda: made.snapshot().state == "finished")
    now = made.snapshot()
    assert (now.done, now.total, now.fraction, now.is_active) == (5, 5, 1.0, False)
    assert [row["step"] for row in made.history.rows] == [1, 2, 3, 4, 5]


def test_pause_stands_still_one_step_takes_one_and_go_on_goes_on(job):
    made = job()
    until(lambda: made.snapshot().done >= 2)
    made.pause()
    until(lambda: made.snapshot().state == "paused")
    time.sleep(0.3)
    stood = made.snapshot().done
    time.sleep(0.3)
    assert made.snapshot().done == stood
    made.one_step()
    until(lambda: made.snapshot().done == stood + 1)
    time.sleep(0.2)
    assert made.snapshot().done == stood + 1
    made.go_on()
    until(lambda: made.snapshot().done >= stood + 4)


def test_stop_answers_within_a_step_and_keeps_what_was_learned(job):
    made = job()
    until(lambda: made.snapshot().done >= 2)
    asked = made.snapshot().done
    made.stop()
    made.wait()
    now = made.snapshot()
    assert now.state == "stopped" and now.done - asked <= 2
    assert made.checkpoint().layers == (2,)


def test_stop_ends_a_pause_and_a_preparation(tiny_llama, job):
    paused = job(paused=True)
    until(lambda: paused.snapshot().state == "paused")
    paused.stop()
    paused.wait()
    assert paused.snapshot().state == "stopped" and paused.snapshot().done == 0
    capturing, held = threading.Event(), threading.Event()

    def slow(progress):
        capturing.set()
        held.wait(60)
        return train(tiny_llama, SPEC, TEXTS, steps=10, progress=progress)

    preparing = TrainingJob(slow).start()
    capturing.wait(60)
    preparing.stop()
    held.set()
    preparing.wait()
    assert preparing.snapshot().state == "stopped" and preparing.training is None


def test_a_checkpoint_can_be_taken_while_it_trains(job):
    made = job()
    until(lambda: made.snapshot().done >= 2)
    first, second = made.checkpoint(), None
    until(lambda: made.snapshot().done >= 6)
    second = made.checkpoint()
    one, two = (found.adapter(2).modulations["gate"].W_b_up for found in (first, second))
    assert not torch.equal(one, two)


def test_a_failure_is_its_sentence_and_what_was_learned_stays(job):
    made = job(learning_rate=9.9, clip=1e9, warmup=0, steps=3000)
    until(lambda: made.snapshot().state == "failed")
    assert "lower the learning rate" in made.snapshot().error
    assert all(p.isfinite().all() for p in made.checkpoint().adapter(2).parameters())


def test_an_unforeseen_failure_shows_no_details():
    def broken(progress):
        raise ZeroDivisionError("secret detail")

    made = TrainingJob(broken).start()
    made.wait()
    assert made.snapshot().state == "failed" and "secret" not in made.snapshot().error


def test_a_bad_input_of_the_preparation_is_its_sentence():
    def refused(progress):
        raise NptVizError("too short")

    made = TrainingJob(refused).start()
    made.wait()
    assert made.snapshot().error == "too short"


def test_a_model_that_was_released_meanwhile_is_said_so():
    model = tiny_model()
    made = TrainingJob(beginning(model)).start()
    until(lambda: made.snapshot().done >= 2)
    model.close()
    made.wait()
    assert made.snapshot().state == "failed" and "base model was released" in made.snapshot().error


def test_a_second_tab_cannot_start_what_would_end_the_first(tiny_llama):
    slot = TrainingSlot()
    slot.begin(TrainingJob(beginning(tiny_llama)))
    first = slot.job
    until(lambda: first.snapshot().done >= 1)
    with pytest.raises(NptVizError, match="a training runs already"):
        slot.begin(TrainingJob(beginning(tiny_llama)))
    assert slot.job is first and first.snapshot().state == "running"
    slot.end()
    first.wait()
    assert first.snapshot().state == "stopped"
    slot.begin(TrainingJob(beginning(tiny_llama, steps=2)))
    slot.job.wait()
    assert slot.job.snapshot().state == "finished"


def test_a_training_that_is_forgotten_is_brought_back_as_it_was_stopped(tiny_llama):
    slot = TrainingSlot()
    slot.begin(TrainingJob(beginning(tiny_llama)))
    first = slot.job
    until(lambda: first.snapshot().done >= 2)
    slot.forget()
    first.wait()
    assert slot.job is None and first.snapshot().state == "stopped"
    slot.bring_back()
    assert slot.job is first and slot.forgotten is None and first.checkpoint().layers == (2,)


def place(folder, room_for=lambda n_bytes, spare: None):
    said: list[str] = []
    return Place(folder, ("tiny", "", "auto", "cpu"), room_for, said.append), said


def test_a_training_saves_itself_while_it_runs_and_goes_on_step_for_step(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_FIRST", 0.0)
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_EVERY", 0.0)
    whole = TrainingJob(beginning(tiny_llama, steps=9)).start()
    whole.wait()
    where, said = place(tmp_path / "mine")
    gate = threading.Event()

    def room_for(n_bytes, spare):
        if spare.exists() and record_of(spare).done >= 4:
            gate.set()
            held.wait(60)

    held = threading.Event()
    made = TrainingJob(beginning(tiny_llama, steps=9), place=replace(where, room_for=room_for)).start()
    assert gate.wait(60)
    # What a killed process would leave: the fourth step is saved, the fifth is not.
    shutil.copytree(tmp_path / "mine", tmp_path / "killed")
    held.set()
    made.wait()
    record = record_of(tmp_path / "killed")
    assert (record.done, record.total, record.state, record.label) == (4, 9, "running", "layer 2, direct")
    going_on = resumed(tiny_llama, tmp_path / "killed")
    assert going_on.done == 4
    for _ in going_on:
        pass
    ends = [each.adapters[2].state_dict() for each in (going_on, whole.training)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert record_of(tmp_path / "mine").state == "finished" and not said
    (result,) = (tmp_path / "mine").glob("*/npt_config.json")
    assert result.parent.name.startswith("tiny-") and result.parent.name.endswith("-2-step-9")
    saved = npt_viz.open_checkpoint(result.parent, tiny_llama).adapter(2).state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in ends[1].items())


def test_a_training_is_saved_when_it_is_paused_and_when_it_is_stopped(tiny_llama, tmp_path):
    where, _ = place(tmp_path / "mine")
    made = TrainingJob(beginning(tiny_llama), place=where).start()
    until(lambda: made.snapshot().done >= 2)
    made.pause()
    until(lambda: (tmp_path / "mine" / "training.json").exists())
    record = record_of(tmp_path / "mine")
    assert record.state == "paused" and record.done == made.snapshot().done
    made.one_step()
    until(lambda: record_of(tmp_path / "mine").done == record.done + 1)
    made.stop()
    made.wait()
    assert record_of(tmp_path / "mine").state == "stopped"


def test_a_full_disk_is_said_once_and_the_training_goes_on(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_FIRST", 0.0)

    def full(n_bytes, spare):
        raise NptVizError("the disk is full")

    where, said = place(tmp_path / "mine", full)
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_EVERY", 0.0)
    made = TrainingJob(beginning(tiny_llama, steps=7), place=where).start()
    made.wait()
    assert made.snapshot().state == "finished" and made.snapshot().done == 7
    assert len(said) == 1 and "the disk is full" in said[0] and "goes on" in said[0]


def test_a_training_that_diverged_keeps_what_was_saved_before(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_FIRST", 0.0)
    monkeypatch.setattr("npt_viz.ui.train.job.SAVED_EVERY", 0.0)
    where, _ = place(tmp_path / "mine")
    made = TrainingJob(
        beginning(tiny_llama, learning_rate=9.9, clip=1e9, warmup=0, steps=3000), place=where
    ).start()
    until(lambda: made.snapshot().state == "failed")
    record = record_of(tmp_path / "mine")
    assert record.state == "failed"
    assert 0 < steps_saved(tmp_path / "mine")[0] <= made.snapshot().done


def test_two_jobs_train_on_one_model_at_once(tiny_llama, job):
    one, two = job(seed=1), job(seed=2)
    until(lambda: one.snapshot().done >= 5 and two.snapshot().done >= 5)
    assert one.history.rows[0]["loss/direct"] == pytest.approx(two.history.rows[0]["loss/direct"], abs=1e-3)
    assert one.history.rows[4] != two.history.rows[4]

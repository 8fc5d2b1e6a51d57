"""A training in a thread: it pauses, steps, stops and fails as a page needs it, and ends with its session."""

import threading
import time

import pytest
import torch
from conftest import tiny_model

from npt_viz.errors import NptVizError
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train
from npt_viz.ui.train.job import TrainingJob, TrainingSlot

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


def test_a_new_job_and_the_end_of_the_session_stop_the_old_one(tiny_llama):
    slot = TrainingSlot()
    slot.begin(TrainingJob(beginning(tiny_llama)))
    first = slot.job
    until(lambda: first.snapshot().done >= 1)
    slot.begin(TrainingJob(beginning(tiny_llama)))
    first.wait()
    assert first.snapshot().state == "stopped"
    second = slot.job
    slot.end()
    second.wait()
    assert second.snapshot().state == "stopped"


def test_two_jobs_train_on_one_model_at_once(tiny_llama, job):
    one, two = job(seed=1), job(seed=2)
    until(lambda: one.snapshot().done >= 5 and two.snapshot().done >= 5)
    assert one.history.rows[0]["loss/direct"] == pytest.approx(two.history.rows[0]["loss/direct"], abs=1e-3)
    assert one.history.rows[4] != two.history.rows[4]

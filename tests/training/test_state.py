"""A training on disk: pausing is not noticed, and nothing is lost when the disk is full or the file is another's."""

import errno
import os
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.training.losses import Curriculum, composite
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.state import STATE_FILE, resumed, save_state, steps_saved
from npt_viz.training.trainer import train

SPEC = AdapterSpec(layers=(1, 3), rank=5, components=2, targets=("gate", "down"))
TEXTS = [f"text number {i} of {i * 7 % 13} and more of it, so that it is long enough" for i in range(12)]
QUICK = {"steps": 5, "batch_tokens": 32, "evaluate_every": 2, "warmup": 2}
EVERYTHING = composite(
    stage_steps=2,
    adaptive="gradient_norms",
    curriculum=Curriculum(steps=(3,), quantiles=(0.5,)),
    gradient_scale=2.0,
)


def numbers(steps):
    return (
        pd.DataFrame([row for step in steps for row in step.rows()])
        .drop(columns="seconds")
        .to_numpy(dtype=float)
    )


def weights(training):
    return [
        p.detach().clone()
        for layer in sorted(training.adapters)
        for p in training.adapters[layer].parameters()
    ]


@pytest.fixture(scope="module")
def unpaused(tiny_llama):
    """unpaused(stream): a training that never stopped, and its steps."""

    @cache
    def trained(stream):
        training = train(tiny_llama, SPEC, TEXTS, EVERYTHING, stream=stream, **QUICK)
        return training, list(training)

    return trained


@pytest.mark.parametrize(
    ("stream", "pause"), [("base", 3), ("in_order", 5), ("in_order", 8), ("end_to_end", 3)]
)
def test_pausing_equals_not_pausing_bit_for_bit(tiny_llama, unpaused, tmp_path, stream, pause):
    whole, expected = unpaused(stream)
    first = train(tiny_llama, SPEC, TEXTS, EVERYTHING, stream=stream, **QUICK)
    steps = [next(first) for _ in range(pause)]
    save_state(first, tmp_path / "paused.pt")
    second = resumed(tiny_llama, tmp_path / "paused.pt")
    assert second.done == pause
    steps += list(second)
    assert np.array_equal(numbers(steps), numbers(expected), equal_nan=True)
    assert [step.alarms for step in steps] == [step.alarms for step in expected]
    assert all(torch.equal(a, b) for a, b in zip(weights(second), weights(whole), strict=True))
    assert all(
        torch.equal(a, b)
        for layer in SPEC.layers
        for a, b in zip(whole.initial[layer].parameters(), second.initial[layer].parameters(), strict=True)
    )


def test_a_continued_checkpoint_can_be_paused_too(tiny_llama, tmp_path):
    checkpoint = Checkpoint.from_adapters(
        {1: specimen(tiny_llama, "N2", 1), 3: specimen(tiny_llama, "N5", 3)}, tiny_llama, "mixed"
    )
    settings = QUICK | {"stream": "in_order"}
    expected = list(train(tiny_llama, checkpoint, TEXTS, "direct", **settings))
    first = train(tiny_llama, checkpoint, TEXTS, "direct", **settings)
    steps = [next(first) for _ in range(3)]
    steps += list(resumed(tiny_llama, save_state(first, tmp_path / "paused.pt")))
    assert np.array_equal(numbers(steps), numbers(expected), equal_nan=True)


@pytest.fixture
def saved(tiny_llama, tmp_path):
    training = train(tiny_llama, SPEC, TEXTS, "direct", **QUICK)
    next(training)
    return training, save_state(training, tmp_path / "paused.pt")


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("unexpected pos 64")]
)
def test_a_full_disk_leaves_the_earlier_file_as_it_was(saved, monkeypatch, fault):
    training, path = saved
    before = path.read_bytes()
    next(training)

    def full(fields, file):
        file.write_bytes(b"half of it")
        raise fault

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        NptVizError, match=r"paused.pt: cannot be written \((No space left|unexpected pos).*unchanged"
    ):
        save_state(training, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["paused.pt"]


def test_another_base_and_another_file_are_refused(tiny_llama, saved, tmp_path):
    _, path = saved
    other = tiny_model()
    with torch.no_grad():
        other.parts(1).gate.weight[0, 0] += 1
    with pytest.raises(NptVizError, match="trained on another base than tiny"):
        resumed(other, path)
    with pytest.raises(NptVizError, match="there is no such file"):
        resumed(tiny_llama, tmp_path / "nothing.pt")
    with pytest.raises(NptVizError, match=r"training_state.pt: there is no such file"):
        resumed(tiny_llama, tmp_path)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(NptVizError, match="is no saved training"):
        resumed(tiny_llama, tmp_path / "other.pt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(NptVizError, match="complete torch file"):
        resumed(tiny_llama, path)


def test_a_finished_training_goes_on_when_given_more_steps(tiny_llama, tmp_path):
    settings = QUICK | {"schedule": "constant"}
    expected = list(train(tiny_llama, SPEC, TEXTS, "direct", **settings | {"steps": 8}))
    first = train(tiny_llama, SPEC, TEXTS, "direct", **settings)
    steps = list(first)
    path = save_state(first, tmp_path / STATE_FILE)
    assert steps_saved(tmp_path) == (5, 5)
    with pytest.raises(NptVizError, match="has taken 5 steps already"):
        resumed(tiny_llama, path)
    with pytest.raises(NptVizError, match="has taken 5 steps already"):
        resumed(tiny_llama, path, steps=4)
    steps += list(resumed(tiny_llama, tmp_path, steps=8))
    assert [step.total for step in steps] == [step.total for step in expected]


def test_layers_in_order_keep_their_number_of_steps(tiny_llama, tmp_path):
    training = train(tiny_llama, SPEC, TEXTS, "direct", stream="in_order", **QUICK)
    next(training)
    with pytest.raises(NptVizError, match="5 steps each, which cannot change"):
        resumed(tiny_llama, save_state(training, tmp_path / "paused.pt"), steps=9)


def test_nothing_is_saved_inside_a_step(tiny_llama, tmp_path, monkeypatch):
    training = train(tiny_llama, SPEC, TEXTS, "direct", **QUICK)
    next(training)
    monkeypatch.setattr(training, "_updated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(training)
    with pytest.raises(NptVizError, match="ended inside step 2"):
        save_state(training, tmp_path / "paused.pt")
    assert not list(tmp_path.iterdir())

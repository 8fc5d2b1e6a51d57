"""`python -m npt_viz train --resume`: pausing, stopping and killing a training is not noticed in its result."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import npt_viz
from npt_viz.__main__ import main
from npt_viz.runs import read_run
from npt_viz.training.trainer import Training


@pytest.fixture
def train(on_disk, tmp_path):
    """train("name", …): six steps, saved in tmp_path/name; the exit status."""
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the dog did not. " * 40, encoding="utf-8")

    def called(name, *options):
        arguments = ["train", "--model", on_disk.model, "--layers", "2", "--rank", "3", "--text", str(text)]
        arguments += ["--steps", "6", "--batch-tokens", "16", "--losses", "direct=1,kl=0.5", "--seed", "3"]
        return main([*arguments, "--out", str(tmp_path / name), *options])

    return called


@pytest.fixture
def resume(on_disk, tmp_path):
    def called(name, *options):
        return main(["train", "--model", on_disk.model, "--resume", str(tmp_path / name), *options])

    return called


def weights(folder):
    checkpoint = npt_viz.open_checkpoint(folder)
    return checkpoint.adapter(2).state_dict()


def same(one, other) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def interrupted_at(step, fault):
    """Training.__next__ that raises before it begins the step after `step`."""
    next_step = Training.__next__

    def interrupted(self):
        if self.done == step:
            raise fault
        return next_step(self)

    return interrupted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_three_steps_stopped_and_three_more_are_six(train, resume, tmp_path, monkeypatch, dtype):
    rounded = ("--save-dtype", dtype)
    assert train("whole", *rounded) == 0
    with monkeypatch.context() as patched:
        patched.setattr(Training, "__next__", interrupted_at(3, KeyboardInterrupt))
        assert train("parts", *rounded) == 130
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert resume("parts", *rounded) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert list(read_run(tmp_path / "parts").layers[2].steps) == [1, 2, 3, 4, 5, 6], "its record is whole"
    recipes = [npt_viz.open_checkpoint(tmp_path / name).config["recipe"] for name in ("whole", "parts")]
    assert recipes[0] == recipes[1] and recipes[1]["losses"] == {"direct": 1.0, "kl": 0.5}


def test_a_killed_training_goes_on_from_its_last_save(train, resume, tmp_path, monkeypatch):
    assert train("whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr(Training, "__next__", interrupted_at(5, SystemExit(9)))
        assert train("killed", "--save-every", "2") == 9
    assert len(read_run(tmp_path / "killed").layers[2].steps) == 4
    assert resume("killed") == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_ctrl_c_ends_after_the_step_so_that_it_can_be_resumed(train, resume, tmp_path, monkeypatch):
    assert train("whole") == 0
    update = Training._updated

    def pressed(self, *arguments):
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_updated", pressed)
        assert train("stopped") == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert len(read_run(tmp_path / "stopped").layers[2].steps) == 4
    assert resume("stopped") == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_a_resumed_training_can_be_longer_and_elsewhere(train, resume, tmp_path, capsys):
    assert train("first") == 0
    assert resume("first") == 1
    assert "has taken 6 steps already" in capsys.readouterr()[1]
    first = weights(tmp_path / "first")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    assert resume("first", "--steps", "8", "--out", str(tmp_path / "full")) == 1
    assert resume("first", "--steps", "8", "--out", str(tmp_path / "more")) == 0
    assert len(read_run(tmp_path / "more").layers[2].steps) == 8
    assert same(first, weights(tmp_path / "first")) and not same(first, weights(tmp_path / "more"))


def said(folder):
    """(licence, fault, dtypes of the weights) as another tool reads them."""
    config = json.loads((folder / "npt_config.json").read_text(encoding="utf-8"))
    dtypes = {str(tensor.dtype) for tensor in load_file(folder / "npt_weights.safetensors").values()}
    return config["licence"], config["fault"], dtypes


def test_a_resumed_training_keeps_licence_fault_and_dtype(train, resume, tmp_path):
    stated = ("--licence", "CC-BY-4.0", "--fault", "no rope on purpose", "--save-dtype", "bfloat16")
    assert train("stated", *stated) == 0
    assert resume("stated", "--steps", "7", "--out", str(tmp_path / "elsewhere")) == 0
    assert resume("stated", "--steps", "8") == 0
    for folder in ("stated", "elsewhere"):
        assert said(tmp_path / folder) == ("CC-BY-4.0", "no rope on purpose", {"torch.bfloat16"})
    assert resume("stated", "--steps", "9", "--licence", "MIT", "--save-dtype", "float16") == 0
    assert said(tmp_path / "stated") == ("MIT", "no rope on purpose", {"torch.float16"})


def test_a_state_without_a_checkpoint_beside_it_is_resumed_with_the_defaults(train, resume, tmp_path):
    assert train("first", "--licence", "MIT") == 0
    assert said(tmp_path / "first") == ("MIT", None, {"torch.float32"})
    (tmp_path / "alone").mkdir()
    (tmp_path / "first" / "training_state.pt").rename(tmp_path / "alone" / "paused.pt")
    out = str(tmp_path / "new")
    assert resume("alone/paused.pt", "--steps", "7", "--out", out) == 0
    assert said(tmp_path / "new") == ("not stated", None, {"torch.float32"})


def test_a_bad_training_that_is_resumed_says_so_again(train, resume, tmp_path, capsys):
    bad = ("--learning-rate", "0.5", "--steps", "40", "--evaluate-every", "20", "--losses", "direct=1")
    assert train("bad", *bad) == 1
    assert "diverged" in capsys.readouterr()[1]
    assert resume("bad", "--steps", "42", "--json") == 1
    told, said = capsys.readouterr()
    result = json.loads(told.splitlines()[-1])
    assert result["diverged"] and "worse than none" in [alarm["rule"] for alarm in result["alarms"]]
    assert "worse than no modulation at all" in said

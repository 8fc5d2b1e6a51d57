"""Every command that runs a model: lack of memory is one sentence and status 1, wherever it runs out."""

import pkgutil

import pytest
import torch

import npt_viz
from npt_viz import commands
from npt_viz.__main__ import main

CALLS = {
    "reconstruction": ("reconstruction", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "orthogonality": ("orthogonality", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "directions": ("directions", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "compare": ("compare", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "attribution": ("attribution", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "convert": ("convert", "checkpoint", "out", "--model", "m"),
    "edit": ("edit", "--model", "m", "--checkpoint", "c", "--source", "a", "--layer", "1"),
    "experiment": ("experiment", "spec.toml", "--out", "out"),
    "health": ("health", "--model", "m", "--checkpoint", "c"),
    "inspect": ("inspect", "--model", "m", "--checkpoint", "c", "--prompt", "a"),
    "open": ("open", "checkpoint", "--model", "m"),
    "push": ("push", "--checkpoint", "c", "--to", "owner/name"),
    "runs": ("runs", "log"),
    "scan": ("scan", "sample", "--model", "m", "--checkpoint", "c", "--out", "out"),
    "sample": ("sample", "--model", "m", "--out", "out.jsonl"),
    "score": ("score", "--model", "m", "--checkpoint", "c", "--layer", "1"),
    "train": ("train", "--model", "m", "--layers", "1", "--text", "t.txt"),
    "transplant": (
        "transplant",
        "--model",
        "m",
        "--checkpoint",
        "c",
        "--donor",
        "a",
        "--prompt",
        "b",
        "--layers",
        "1",
    ),
}
WITHOUT_NUMBERS = {"app", "model"}
"""Start the app, or fetch files."""

PLACES = {
    "convert": "npt_viz.open_model",
    "experiment": "npt_viz.experiments.spec_file.read_experiment_spec",
    "push": "npt_viz.push_checkpoint",
    "runs": "npt_viz.runs.logs_of",
    "score": "npt_viz.open_model",
    "train": "npt_viz.texts.texts_from_file",
}


def test_every_command_is_here():
    names = {
        found.name for found in pkgutil.iter_modules(commands.__path__) if not found.name.startswith("_")
    }
    assert names == set(CALLS) | WITHOUT_NUMBERS


ERRORS = [
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7000000000 bytes"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB"),
    MemoryError(),
]


@pytest.fixture(autouse=True, scope="module")
def everything_is_imported():
    """A module that is first imported while a stand-in is in place would keep it for all later tests."""
    for name in npt_viz.__all__:
        getattr(npt_viz, name)


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.parametrize("error", ERRORS, ids=["cpu", "gpu", "python"])
def test_running_out_is_a_sentence_and_status_1(command, error, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run_out(*_, **__):
        raise error

    for place in {PLACES.get(command, "npt_viz.open_model"), "npt_viz.open_model"}:
        monkeypatch.setattr(place, run_out)
    assert main(list(CALLS[command])) == 1
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith("npt_viz: ") and "Traceback" not in err
    assert "memory than there is" in last and "; use " in last

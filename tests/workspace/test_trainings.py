"""Records of trainings: which are running, told by the process that trains them."""

import json
import socket
import subprocess
import sys
import time

import pytest

from npt_viz.workspace.trainings import RECORD, is_running, record_of, this_process, write_record

VALUES = {"label": "Layer 2", "base": ("tiny", "auto", "cpu"), "done": 120, "total": 3000, "state": "running"}


def changed(folder, **values):
    content = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(content | values))


def test_a_record_is_read_back(tmp_path):
    write_record(tmp_path / "mine", **VALUES)
    record = record_of(tmp_path / "mine")
    assert (record.label, record.base, record.done, record.total) == (
        "Layer 2",
        ("tiny", "auto", "cpu"),
        120,
        3000,
    )
    assert abs(record.saved - time.time()) < 60 and is_running(tmp_path / "mine")


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_one_that_has_ended_does_not_run(tmp_path, state):
    write_record(tmp_path, **VALUES | {"state": state})
    assert not is_running(tmp_path)


def test_one_whose_process_is_gone_does_not_run(tmp_path):
    program = "import sys; from npt_viz.workspace.trainings import write_record; write_record("
    program += f"__import__('pathlib').Path({str(tmp_path)!r}), **{VALUES!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert record_of(tmp_path).state == "running" and not is_running(tmp_path)


def test_a_number_that_was_given_to_another_process_is_not_it(tmp_path):
    write_record(tmp_path, **VALUES)
    host, number, began = this_process().rsplit(" ", 2)
    changed(tmp_path, process=f"{host} {number} {int(began) - 1}")
    assert not is_running(tmp_path)


def test_one_of_another_machine_runs_while_it_is_saved(tmp_path):
    write_record(tmp_path, **VALUES)
    changed(tmp_path, process=f"not-{socket.gethostname()} 1 1")
    assert is_running(tmp_path)
    changed(tmp_path, saved=time.time() - 200)
    assert not is_running(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"done": "x"}, {"base": [1]}, {"base": "tiny"}, {"label": None}, {"done": True}, {"saved": "now"}],
)
def test_a_damaged_record_is_none(tmp_path, change):
    write_record(tmp_path, **VALUES)
    changed(tmp_path, **change)
    assert record_of(tmp_path) is None and not is_running(tmp_path)


def test_no_record_is_none(tmp_path):
    assert record_of(tmp_path / "nothing") is None
    (tmp_path / RECORD).write_text("{")
    assert record_of(tmp_path) is None

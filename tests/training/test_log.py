"""The log of a training that has run is on the disk whole or not at all."""

import json

import pytest

from npt_viz.errors import NptVizError
from npt_viz.training import log
from npt_viz.training.log import logged_rows, save_log


def rows(n_steps):
    return [{"step": step, "layer": 2, "total": 1 / step} for step in range(1, n_steps + 1)]


def test_a_saved_log_has_its_settings_and_every_row(tmp_path):
    path = save_log(tmp_path / "new" / "steps.jsonl", rows(3), name="mine", settings={"rank": 7})
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"format": log.FORMAT, "name": "mine", "settings": {"rank": 7}}
    assert lines[1:] == rows(3) and logged_rows(path) == (rows(3), 0)


def stopped_after_two():
    yield from rows(2)
    raise SystemExit(9)


def no_space():
    yield from rows(2)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("more", "error"), [(stopped_after_two, SystemExit), (no_space, NptVizError)])
def test_a_log_that_is_not_finished_leaves_the_earlier_one(tmp_path, more, error):
    path = save_log(tmp_path / "steps.jsonl", rows(5), name="mine", settings={})
    with pytest.raises(error):
        save_log(path, more(), name="mine", settings={})
    assert logged_rows(path) == (rows(5), 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["steps.jsonl"]


def test_the_earlier_log_is_there_while_the_new_one_is_written(tmp_path):
    """What a killed process leaves: nothing runs after SIGKILL."""
    path = save_log(tmp_path / "steps.jsonl", rows(5), name="mine", settings={})
    seen = []

    def watched():
        for row in rows(6):
            seen.append(logged_rows(path)[0])
            yield row

    save_log(path, watched(), name="mine", settings={})
    assert seen == [rows(5)] * 6 and logged_rows(path)[0] == rows(6)

"""Logs below a folder."""

import os

from npt_viz.runs import found_runs


def test_logs_are_found_at_any_reasonable_depth_newest_first(tmp_path):
    for i, name in enumerate(
        ["a/steps.jsonl", "b/c/training_log.jsonl", "b/notes.jsonl", ".hidden/steps.jsonl"]
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (1000 + i, 1000 + i))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert found_runs(tmp_path) == [tmp_path / "b/c/training_log.jsonl", tmp_path / "a/steps.jsonl"]


def test_many_logs_are_capped_and_a_missing_folder_has_none(tmp_path):
    for i in range(7):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "steps.jsonl").write_text("")
    assert len(found_runs(tmp_path, most=3)) == 3
    assert found_runs(tmp_path / "nowhere") == []

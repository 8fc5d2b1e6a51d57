"""The workspace's folder: what is made, what is refused without being touched, and what takes its place."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from npt_viz.workspace import place


def content(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_that_is_missing_is_made_for_its_user_alone(tmp_path):
    found = place.opened(tmp_path / "a" / "b", limit=7e8)
    assert found.root == tmp_path / "a" / "b" and found.problem is None and found.limit == 7e8
    assert json.loads((found.root / "workspace.json").read_text()) == {
        "format": "npt_viz workspace",
        "format_version": 1,
    }
    assert found.root.stat().st_mode & 0o077 == 0
    before = content(found.root)
    assert not place.opened(found.root).is_temporary and content(found.root) == before


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        (
            {"format": "npt_viz workspace", "format_version": 2},
            "format_version is 2 and this npt_viz reads 1",
        ),
        ({"format": "npt_viz workspace", "format_version": "1"}, "format_version is '1'"),
        ({"format": "something else", "format_version": 1}, "not the mark of a workspace"),
        ([1], "not the mark of a workspace"),
    ],
)
def test_what_another_version_or_program_made_is_not_touched(tmp_path, mark, sentence):
    (tmp_path / "workspace.json").write_text(json.dumps(mark))
    (tmp_path / "browsers").mkdir()
    (tmp_path / "browsers" / "more").write_text("theirs")
    before = content(tmp_path)
    found = place.opened(tmp_path)
    assert found.is_temporary and found.root != tmp_path and found.root.is_dir()
    assert sentence in found.problem and str(tmp_path) in found.problem
    assert "kept only while this server runs" in found.problem
    assert content(tmp_path) == before


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    found = place.opened(tmp_path)
    assert found.is_temporary and "is no workspace of npt_viz and is not empty" in found.problem
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_workspace_that_another_session_is_making_is_waited_for(tmp_path):
    """Its mark is written whole: for a moment there is only the file that becomes it."""
    half = tmp_path / ".workspace.json.half"
    half.write_text(json.dumps({"format": "npt_viz workspace", "format_version": 1}))
    timer = threading.Timer(0.2, half.rename, [tmp_path / "workspace.json"])
    timer.start()
    found = place.opened(tmp_path)
    timer.join()
    assert found.root == tmp_path and not found.is_temporary


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    found = place.opened(tmp_path / "file")
    assert found.is_temporary and "cannot be used as a workspace" in found.problem


def test_a_disk_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    place.opened(tmp_path / "w")

    def refused(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(place.tempfile, "TemporaryFile", refused)
    found = place.opened(tmp_path / "w")
    assert found.is_temporary and "Read-only file system" in found.problem


def test_a_temporary_workspace_goes_with_its_process(tmp_path):
    (tmp_path / "file").write_text("x")
    program = f"from npt_viz.workspace import place; print(place.opened({str(tmp_path / 'file')!r}).root)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert not os.path.exists(done.stdout.strip())


def test_the_environment_names_folder_and_bound(tmp_path, monkeypatch):
    monkeypatch.setenv("NPT_VIZ_WORKSPACE", str(tmp_path / "w"))
    monkeypatch.setenv("NPT_VIZ_WORKSPACE_GB", "0.5")
    found = place.of_environment()
    assert (found.root, found.limit) == (tmp_path / "w", 5e8)
    monkeypatch.setenv("NPT_VIZ_WORKSPACE_GB", "much")
    assert place.of_environment().limit == 5e9


def test_the_default_folder_is_in_the_users_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert place.default_folder() == tmp_path / "npt_viz"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/to/be/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place.default_folder() == tmp_path / "home/.local/share/npt_viz"


def test_the_idle_time_is_a_setting(monkeypatch):
    assert place.idle_hours() == 12
    monkeypatch.setenv("NPT_VIZ_IDLE_HOURS", "0.5")
    assert place.idle_hours() == 0.5
    monkeypatch.setenv("NPT_VIZ_IDLE_HOURS", "long")
    assert place.idle_hours() == 12


def test_a_workspace_that_another_session_begins_between_two_looks_is_used(tmp_path, monkeypatch):
    root, look, looks = tmp_path / "new", Path.iterdir, []
    monkeypatch.setattr(place, "BEING_MADE", 0)

    def beginning_to_be_made(folder):
        seen = [*look(folder)]
        if not looks:
            (folder / "half-made").touch()  # As the other session writes it whole.
        looks.append(folder)
        return iter(seen)

    monkeypatch.setattr(Path, "iterdir", beginning_to_be_made)
    assert place.opened(root).problem is None and looks

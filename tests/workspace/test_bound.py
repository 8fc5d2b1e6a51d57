"""The bound: what goes first, what never goes, and that nothing goes where it would not be enough."""

import os

import pytest

from npt_viz.errors import NptVizError
from npt_viz.workspace.bound import make_room
from npt_viz.workspace.place import Workspace
from npt_viz.workspace.trainings import write_record


@pytest.fixture
def workspace(tmp_path):
    """Three uploads of 100, 200 and 300 bytes, the first the oldest, and what never goes: 1,000 bytes."""
    for browser, kind, name, size, age in (
        ("one", "uploads", "a", 100, 30),
        ("two", "trainings", "b", 200, 20),
        ("one", "uploads", "c", 300, 10),
        ("one", "runs", "experiment", 600, 40),
        ("one", "ledgers", "x", 400, 50),
    ):
        file = tmp_path / "browsers" / browser / kind / name / "file"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * size)
        os.utime(file, (1e9 - age, 1e9 - age))
    return Workspace(tmp_path, limit=1700)


def left(workspace) -> str:
    return "".join(sorted(path.name for path in workspace.root.glob("browsers/*/*/?")))


def test_nothing_goes_while_there_is_room(workspace):
    assert make_room(workspace, needs_bytes=100) == [] and left(workspace) == "abcx"


@pytest.mark.parametrize(
    ("needs", "stays"), [(101, "bcx"), (200, "bcx"), (201, "cx"), (401, "x"), (700, "x")]
)
def test_the_oldest_go_first_and_no_more_than_needed(workspace, needs, stays):
    gone = make_room(workspace, needs_bytes=needs)
    assert left(workspace) == stays and "".join(item.path.name for item in gone) == "abcx".removesuffix(stays)


def test_what_is_in_use_stays(workspace):
    inside = workspace.root / "browsers/one/uploads/a/file"
    assert [item.path.name for item in make_room(workspace, needs_bytes=101, spare=[inside])] == ["b"]
    folder = workspace.root / "browsers/one/uploads/a"
    assert [item.path.name for item in make_room(workspace, needs_bytes=350, spare=[folder])] == ["c"]


def test_a_training_that_runs_stays(workspace):
    write_record(
        workspace.root / "browsers/two/trainings/b",
        label="layer 2",
        base=(),
        done=1,
        total=9,
        state="running",
    )
    workspace.limit = 2000
    gone = make_room(workspace, needs_bytes=500)
    assert [item.path.name for item in gone] == ["a", "c"]


def test_where_it_cannot_be_enough_nothing_goes(workspace):
    with pytest.raises(NptVizError, match=r"more do not fit .* larger --workspace-gb"):
        make_room(workspace, needs_bytes=701)
    assert left(workspace) == "abcx"


def test_what_went_has_the_name_that_its_user_knows(workspace):
    write_record(
        workspace.root / "browsers/two/trainings/b",
        label="layer 2",
        base=(),
        done=1,
        total=9,
        state="stopped",
    )
    gone = make_room(workspace, needs_bytes=workspace.limit - 1000)
    assert sorted(item.label for item in gone) == ["file", "file", "layer 2"]

"""The bound: what goes first, what never goes, and that nothing goes where it would not be enough."""

import os

import pytest

from npt_viz.errors import NptVizError
from npt_viz.workspace.bound import NUMBERS, make_room, room_for_history
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.history import History
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


def history_of(workspace, browser, sizes) -> History:
    """A history whose entries are from 1970: the oldest of all."""
    kept = History(workspace.root / "browsers" / browser / "history.sqlite")
    for at, size in enumerate(sizes):
        said = {"kind": "inspection", "page": "tokens", "title": f"{browser} {at}", "sentence": "s"}
        kept.put(Entry(key=f"{browser}{at}", time=float(at), **said), os.urandom(size))
    kept.write()
    return kept


def test_numbers_of_histories_go_before_any_upload_and_the_entries_stay(workspace):
    one, two = (history_of(workspace, browser, (30_000, 30_000)) for browser in ("one", "two"))
    others = sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
    workspace.limit = others
    gone = make_room(workspace, needs_bytes=45_000)
    assert [(item.label, item.key) for item in gone] == [(NUMBERS, "one0"), (NUMBERS, "two0")]
    assert [entry.n_bytes for entry in one.found().entries] == [30_000, 0] and two.numbers("two0") is None
    assert two.numbers("two1") is not None and left(workspace) == "abcx"
    after = sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
    assert after + 45_000 <= workspace.limit, "the files are smaller by it"
    workspace.limit = after
    gone = make_room(workspace, needs_bytes=60_050)
    assert [item.path.name for item in gone if not item.key] == ["a"] and one.found().n == 2


def test_a_history_takes_its_share_or_what_is_left(workspace):
    file = history_of(workspace, "one", (5_000,)).file
    others = sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file() and path != file)
    for limit, room in ((others + 100.0, 100.0), (others - 1.0, 0.0), (1e9, 1e8)):
        workspace.limit = limit
        assert room_for_history(workspace, file) == pytest.approx(room)

"""What is written is there whole or not at all: after an error, a full disk and a killed process."""

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from npt_viz import NptVizError
from npt_viz.files import restore_overwritten, whole_file, whole_folder, write_whole

HALF = b"half of it"


@contextmanager
def writing(kind, path, **options):
    """A whole file of 20 bytes, or a whole folder with such a file in a folder; yields the file to write."""
    if kind == "file":
        with whole_file(path) as partial:
            yield partial
    else:
        with whole_folder(path, **options) as partial:
            (partial / "inner").mkdir()
            yield partial / "inner" / "weights"


def content(kind, path) -> bytes:
    return (path if kind == "file" else path / "inner" / "weights").read_bytes()


KINDS = ("file", "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_complete_has_its_name_and_nothing_lies_beside_it(tmp_path, kind):
    with writing(kind, tmp_path / "mine") as partial:
        partial.write_bytes(2 * HALF)
        assert not (tmp_path / "mine").exists()
    assert content(kind, tmp_path / "mine") == 2 * HALF
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), NptVizError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_error_in_the_middle_leaves_nothing(tmp_path, kind, fault, raised):
    with pytest.raises(raised) as caught, writing(kind, tmp_path / "mine") as partial:
        partial.write_bytes(HALF)
        raise fault
    assert list(tmp_path.iterdir()) == []
    if raised is NptVizError:
        assert str(caught.value).startswith(
            f"{tmp_path / 'mine'}: cannot be written (No space left on device); "
        )
        assert "nothing is left there: check the space" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_what_was_there_before(tmp_path, kind):
    with writing(kind, tmp_path / "mine") as partial:
        partial.write_bytes(b"before")
    with (
        pytest.raises(NptVizError, match="what was there before is unchanged"),
        writing(kind, tmp_path / "mine", overwrite=True) as partial,
    ):
        partial.write_bytes(HALF)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert content(kind, tmp_path / "mine") == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_really_full_is_a_sentence(tmp_path, kind):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        full = r"mine: cannot be written \(No space left on device\)"
        with pytest.raises(NptVizError, match=full), writing(kind, disk / "mine") as partial:
            partial.write_bytes(bytes(100_000))
        assert list(disk.iterdir()) == []
        with (
            pytest.raises(NptVizError, match=r"its disk has 0\.0 GB free"),
            whole_folder(disk / "a", needs_bytes=65537),
        ):
            pass
        with whole_folder(disk / "a", needs_bytes=40_000):
            pass
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, kind):
    """The kernel itself stops the write after 1,000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(NptVizError, match="File too large"), writing(kind, tmp_path / "mine") as partial:
            partial.write_bytes(bytes(1001))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def killed(work) -> None:
    """Run `work` in a process of its own that is killed when it says so."""
    child = os.fork()
    if child == 0:
        try:
            work(lambda: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_leaves_nothing_that_looks_complete_and_the_next_clears_it(tmp_path, kind):
    def half(kill):
        with writing(kind, tmp_path / "mine") as partial:
            partial.write_bytes(HALF)
            kill()

    killed(half)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".mine.") and left.name.endswith(".partial")
    with writing(kind, tmp_path / "mine") as partial:
        partial.write_bytes(2 * HALF)
    assert content(kind, tmp_path / "mine") == 2 * HALF
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_a_process_killed_between_the_renames_of_an_overwrite_loses_nothing(tmp_path, monkeypatch):
    with writing("folder", tmp_path / "mine") as partial:
        partial.write_bytes(b"before")

    def half(kill):
        rename = type(tmp_path).rename
        monkeypatch.setattr(
            type(tmp_path),
            "rename",
            lambda path, to: kill() if path.suffix == ".partial" else rename(path, to),
        )
        with writing("folder", tmp_path / "mine", overwrite=True) as partial:
            partial.write_bytes(HALF)

    killed(half)
    assert not (tmp_path / "mine").exists()
    with pytest.raises(NptVizError, match="exists already"), whole_folder(tmp_path / "mine"):
        pass
    assert content("folder", tmp_path / "mine") == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_two_writers_of_one_process_do_not_meet(tmp_path):
    with whole_file(tmp_path / "mine") as first, whole_file(tmp_path / "mine") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "mine").read_bytes() == b"first", "the outer block ends last"


@pytest.mark.parametrize("kind", KINDS)
def test_content_and_names_reach_the_disk_in_that_order(tmp_path, monkeypatch, kind):
    """Every file and folder is synchronised before the name is given, the folder above after it."""
    synced, rename, replace, fsync = [], type(tmp_path).rename, os.replace, os.fsync

    def noted(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}").replace(".partial", ""))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", lambda *names: (synced.append("named"), replace(*names)))
    monkeypatch.setattr(type(tmp_path), "rename", lambda *names: (synced.append("named"), rename(*names)))
    with writing(kind, tmp_path / "mine") as partial:
        partial.write_bytes(HALF)
    before, after = synced[: synced.index("named")], synced[synced.index("named") + 1 :]
    hidden = next(name for name in before if ".mine." in name)
    top = hidden[: hidden.index(".mine.")] + ".mine." + hidden.split(".mine.")[1].split("/")[0]
    expected = {top} if kind == "file" else {top, f"{top}/inner", f"{top}/inner/weights"}
    assert set(before) == expected and after == [str(tmp_path)]


def test_what_exists_is_overwritten_only_where_that_is_said(tmp_path):
    for there in (tmp_path / "file", tmp_path / "folder"):
        there.touch() if there.name == "file" else there.mkdir()
        with pytest.raises(NptVizError, match=f"{there}: exists already"), whole_folder(there):
            pass
    with whole_folder(tmp_path / "folder", overwrite=True) as partial:
        (partial / "new").touch()
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["new"]


def test_a_place_that_is_not_there_is_a_sentence_and_stays_absent(tmp_path):
    with pytest.raises(NptVizError, match=r"x: cannot be written \(No such file or directory\)"):
        write_whole(tmp_path / "nowhere" / "x", "text")
    (tmp_path / "file").touch()
    for write in (
        lambda path: write_whole(path, "", parents=True),
        lambda path: whole_folder(path).__enter__(),
    ):
        with pytest.raises(NptVizError, match=r"cannot be written \((Not a directory|File exists)"):
            write(tmp_path / "file" / "x")
    with pytest.raises(NptVizError, match=r"cannot be written \(Is a directory\)"):
        write_whole(tmp_path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_that_may_only_be_read_is_a_sentence(tmp_path, monkeypatch):
    """As root every folder can be written, so the refusal is made by hand."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(tmp_path), "write_bytes", refused)
    with pytest.raises(NptVizError, match=r"x: cannot be written \(Permission denied\)"):
        write_whole(tmp_path / "x", "text")


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_whole(tmp_path / "deep" / "x", "ä\r\nb\n", parents=True)
    assert (tmp_path / "deep" / "x").read_bytes() == b"\xc3\xa4\r\nb\n"
    assert stat.S_IMODE((tmp_path / "deep" / "x").stat().st_mode) & 0o400


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "text"
    write_whole(os.devnull, "text")
    assert not os.path.isfile(os.devnull)
    program = "from npt_viz.files import write_whole; write_whole('/dev/stdout', 'text')"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "text"


def test_files_have_the_permissions_that_the_umask_allows(tmp_path):
    """safetensors makes its files readable by their owner alone; a colleague has to be able to open a checkpoint."""
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "one.safetensors") as partial:
            save_file({"a": torch.zeros(3)}, partial)
        with whole_folder(tmp_path / "folder") as new:
            save_file({"a": torch.zeros(3)}, new / "weights.safetensors")
    finally:
        os.umask(before)
    for path in (tmp_path / "one.safetensors", tmp_path / "folder" / "weights.safetensors"):
        assert path.stat().st_mode & 0o777 == 0o640, path


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path = tmp_path / "private.txt"
    path.write_text("before")
    path.chmod(0o600)
    write_whole(path, "after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o600)


def test_an_error_of_another_file_is_not_said_of_the_one_that_is_written(tmp_path):
    other = tmp_path / "elsewhere" / "missing.txt"
    with pytest.raises(FileNotFoundError, match="missing"), whole_file(tmp_path / "target.txt"):
        other.read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_finds_the_earlier_folder_of_an_overwrite_that_was_killed(tmp_path):
    """Between the two renames only the earlier folder is whole, under the name that its writer gave it."""
    folder = tmp_path / "checkpoint"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = tmp_path / f".checkpoint.{socket.gethostname()}-{gone.pid}-0a1b2c3d.old"
    old.mkdir()
    (old / "weights").write_bytes(b"whole")
    restore_overwritten(folder)
    assert (folder / "weights").read_bytes() == b"whole" and not old.exists()


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n" * 200 + ".txt"])
def test_the_longest_name_that_a_file_may_have_is_written_and_cleared(tmp_path, name):
    """What a temporary name adds must not make it too long."""
    write_whole(tmp_path / name, "first")
    write_whole(tmp_path / name, "second")
    assert (tmp_path / name).read_text() == "second" and [path.name for path in tmp_path.iterdir()] == [name]


def test_two_long_names_with_one_start_do_not_share_a_temporary_name(tmp_path):
    one, other = (tmp_path / ("n" * 250 + end) for end in "ab")
    with whole_file(one) as first, whole_file(other) as second:
        first.write_text("1")
        second.write_text("2")
    assert (one.read_text(), other.read_text()) == ("1", "2")

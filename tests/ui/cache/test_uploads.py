"""Uploads: one place for one content, below the browser's folder, under the harmless part of the user's name."""

from pathlib import Path
from typing import NamedTuple

import pytest
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.ui.cache import uploads
from npt_viz.ui.cache.owner import Owner
from npt_viz.ui.cache.uploads import safe_name
from npt_viz.workspace.place import Workspace


class File(NamedTuple):
    """What st.file_uploader gives."""

    name: str
    content: bytes
    file_id: str

    def getbuffer(self):
        return memoryview(self.content)


@pytest.fixture
def owner(tmp_path, monkeypatch):
    made = Owner("1" * 32, Workspace(tmp_path / "w", limit=1000))
    monkeypatch.setattr(uploads, "owner", lambda: made)
    monkeypatch.setattr(st, "session_state", {})
    return made


def test_the_same_content_has_one_place_in_every_session(owner, monkeypatch):
    first = uploads.uploaded(File("npt.pt", b"weights", "a"), "checkpoint")
    assert first.read_bytes() == b"weights" and first.parent.parent == owner.folder.uploads
    monkeypatch.setattr(st, "session_state", {})
    assert uploads.uploaded(File("npt.pt", b"weights", "b"), "checkpoint") == first
    other = uploads.uploaded(File("npt.pt", b"other weights", "c"), "checkpoint")
    assert other != first and other.name == "npt.pt" and other.read_bytes() == b"other weights"


@pytest.mark.parametrize("name", ["../../../x.pt", "/etc/x.pt", "..", "a/../../x.pt", ".hidden"])
def test_no_name_leads_out_of_the_browsers_folder(owner, name):
    path = uploads.uploaded(File(name, b"x", "a"), "checkpoint")
    assert path.resolve().parent.parent == owner.folder.uploads.resolve()


def test_one_that_was_removed_is_written_again(owner):
    file = File("npt.pt", b"weights", "a")
    first = uploads.uploaded(file, "checkpoint")
    first.unlink()
    assert uploads.uploaded(file, "checkpoint").read_bytes() == b"weights"


def test_the_oldest_goes_and_is_named(owner):
    first = uploads.uploaded(File("old.pt", b"x" * 600, "a"), "checkpoint")
    second = uploads.uploaded(File("new.pt", b"y" * 600, "b"), "checkpoint")
    assert not first.exists() and second.exists()
    (sentence,) = owner.sayings()
    assert "the oldest of its uploads, trainings and kept numbers went: old.pt." in sentence


def test_what_does_not_fit_lasts_as_long_as_the_server_and_is_said(owner):
    path = uploads.uploaded(File("big.pt", b"x" * 1001, "a"), "checkpoint")
    assert path.read_bytes() == b"x" * 1001 and owner.folder.uploads not in path.parents
    (sentence,) = owner.sayings()
    assert "big.pt is kept only while this server runs" in sentence


def test_a_disk_that_cannot_be_written_is_said(owner, monkeypatch):
    def refused(path, content, **_):
        if owner.folder.path in Path(path).parents:
            raise NptVizError("Read-only file system")
        write_whole(path, content)

    monkeypatch.setattr(uploads, "write_whole", refused)
    assert uploads.uploaded(File("npt.pt", b"weights", "a"), "checkpoint").read_bytes() == b"weights"
    assert "Read-only file system" in owner.sayings()[0]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.pt", "x.pt"),
        ("a b.jsonl", "a_b.jsonl"),
        (".hidden", "hidden"),
        ("///", "otherwise"),
        ("日.pt", "日.pt"),
    ],
)
def test_only_the_harmless_part_of_a_name_is_kept(name, kept):
    assert safe_name(name, "otherwise") == kept


@pytest.mark.parametrize("letter", ["n", "日", "𝒳"])
def test_a_long_name_is_cut_and_keeps_its_ending(tmp_path, letter):
    name = safe_name(letter * 300 + ".safetensors", "otherwise")
    assert Path(name).suffix == ".safetensors" and len(name) <= 60
    write_whole(tmp_path / name, "it can be written")

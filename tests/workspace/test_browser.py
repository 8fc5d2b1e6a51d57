"""A browser's folder: its name says nothing of the id, and what cannot be read is set aside."""

import hashlib
import json

import pytest

from npt_viz.errors import NptVizError
from npt_viz.workspace.browser import BrowserFolder, is_id, new_id
from npt_viz.workspace.place import Workspace

ID = "0123456789abcdef" * 2


@pytest.fixture
def folder(tmp_path):
    return BrowserFolder(Workspace(tmp_path), ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../" * 10 + "ab",
        ID[:-1],
        ID + "0",
        ID.upper(),
        ID + "\n",
        "g" * 32,
        None,
        7,
        b"0" * 32,
        "٠" * 32,
    ],
)
def test_only_32_hex_digits_are_an_id(tmp_path, text):
    assert not is_id(text)
    with pytest.raises(ValueError, match="no id"):
        BrowserFolder(Workspace(tmp_path), text)
    assert is_id(ID) and not list(tmp_path.iterdir())


def test_ids_are_random():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100 and all(map(is_id, ids))


def test_the_folder_has_the_hash_for_a_name(folder, tmp_path):
    assert folder.path == tmp_path / "browsers" / hashlib.sha256(ID.encode()).hexdigest()
    assert all(ID not in str(path) for path in (folder.path, folder.uploads, folder.ledgers))
    assert not folder.path.exists(), "nothing is made before something is written"


def test_what_is_written_is_read_back(folder):
    assert folder.kept() == ({}, None) and folder.mark() is None
    kept = {"choices": {"edit_prompt": "naïve 東京 🙂", "edit_alpha": 1.5, "edit_several": [2, 3]}}
    folder.write(kept)
    assert folder.kept() == (kept, None) and folder.mark()[1] > 20


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "[" * 100_000, "null"])
def test_what_is_damaged_is_set_aside_and_said(folder, text):
    folder.write({})
    (folder.path / "kept.json").write_text(text)
    kept, sentence = folder.kept()
    assert kept == {} and "damaged" in sentence
    assert (folder.path / "kept.damaged").read_text() == text
    folder.write({"a": 1})
    assert folder.kept() == ({"a": 1}, None)


def test_what_cannot_be_written_leaves_what_was_there(folder, monkeypatch):
    folder.write({"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npt_viz.files.os.replace", full)
    with pytest.raises(NptVizError, match="No space left on device"):
        folder.write(json.dumps({"a": 2}))
    monkeypatch.undo()
    assert folder.kept() == ({"a": 1}, None)

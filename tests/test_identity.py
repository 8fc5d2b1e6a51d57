"""What a file is, told without reading it."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from npt_viz.errors import NptVizError
from npt_viz.identity import damage_of, file_kind, text_in


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("run/config.json", "{}")
        archive.writestr("run/checkpoints/", "")
    return stream.getvalue()


def tarred(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("run/config.json"), io.BytesIO(b""))
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, W_down=np.ones(3))
    return stream.getvalue()


def saved(content, **how) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("npt_weights.pt", b"", "an empty file"),
        ("npt_weights.pt", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("npt_weights.pt", b"GGUF\x03", "a GGUF file"),
        ("npt_weights.pt", zipped(), "a zip archive of 1 file (config.json)"),
        ("npt_weights.npz", arrays(), "a NumPy archive of 1 array (W_down.npy)"),
        ("npt_weights.npy", b"\x93NUMPY\x01\0", "a NumPy array"),
        ("npt_weights.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("npt_weights.pt", b"%PDF-1.7", "a PDF document"),
        ("npt_weights.pt", pickle.dumps({"x": 1}), "a pickle that torch.save did not write"),
        ("npt_weights.pt", pickle.dumps({"x": 1}, protocol=2), "a pickle that torch.save did not write"),
        (
            "npt_weights.pt",
            b"<!DOCTYPE html>\n<html>",
            "text and not weights",
        ),
        ("model.safetensors", "Entrée not found".encode(), "text and not weights"),
        ("npt_weights.pt", tarred("w"), "a tar archive"),
        ("npt_weights.pt", tarred("w:gz"), "a gzip archive"),
        ("training_log.jsonl", b"{}", "a training log"),
        ("log_rank0.jsonl", b"{}", "a training log"),
        ("injection_history.json", b"[]", "the history of permanent edits"),
        ("rng_state_0.pth", b"x", "the optimiser's part"),
        ("eval_metrics_layer_3.json", b"{}", "the record of an evaluation"),
        ("tokenizer_config.json", b"{}", "a part of a base model's folder"),
        ("notes.txt", b"hello", "a text file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_without_adapters_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert file_kind(tmp_path / name).words.startswith(words)


@pytest.mark.parametrize(
    "content",
    [
        saved({"x": torch.ones(2)}),
        saved({"x": torch.ones(2)}, _use_new_zipfile_serialization=False),
        saved({"x": 1}, _use_new_zipfile_serialization=False)[:9],
        saved({})[:40],
        b"\x08\0\0\0\0\0\0\0{",
    ],
    ids=["torch", "old torch", "old torch cut off", "cut off", "safetensors"],
)
def test_what_may_hold_adapters_is_left_to_its_reader(tmp_path, content):
    (tmp_path / "npt_weights.pt").write_bytes(content)
    assert file_kind(tmp_path / "npt_weights.pt") is None
    assert damage_of(tmp_path / "npt_weights.pt") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x93NUMPY\x01\0", "is a NumPy array, and no text; give a note"),
        (b"%PDF-1.7", "is a PDF document, and no text; give a note"),
        (b"a\0b", "is a file of bytes that are no letters, and no text; give a note"),
        ("ä".encode("latin-1") * 9, "cannot be read as UTF-8 text (byte 0xe4 at 0); save it as UTF-8"),
        ("a".encode("utf-16"), "cannot be read as UTF-8 text (byte 0xff at 0); save it as UTF-8"),
        (
            b"version https://git-lfs",
            "is a Git LFS pointer, not the file itself, and no text; run `git lfs pull`",
        ),
    ],
    ids=["numpy", "pdf", "bytes", "latin-1", "utf-16", "pointer"],
)
def test_what_is_no_text_says_what_it_is(tmp_path, content, said):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(NptVizError) as raised:
        text_in(tmp_path / "x", "a note")
    assert said in str(raised.value)


def test_what_is_not_there_and_what_is_a_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, said in (
        ("none", "no such file or folder"),
        ("link", "gone, which is not there"),
        (".", "is a folder"),
    ):
        with pytest.raises(NptVizError, match=f"{said}; give a note"):
            text_in(tmp_path / name, "a note")


def test_text_is_read_without_its_byte_order_mark(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffab\u00e4".encode())
    assert text_in(tmp_path / "x", "a note") == "abä"
    (tmp_path / "empty").touch()
    assert text_in(tmp_path / "empty", "a note") == ""


def test_a_download_that_left_a_page_shows_how_it_begins(tmp_path):
    (tmp_path / "npt_weights.pt").write_text("<!DOCTYPE html>\n<html>" + "x" * 999)
    advice = file_kind(tmp_path / "npt_weights.pt").advice
    assert advice.startswith("it begins '<!DOCTYPE html> <html>xx") and len(advice) < 120

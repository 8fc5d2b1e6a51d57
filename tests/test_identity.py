"""What a file is, told without reading it."""

import io
import pickle
import tarfile
import zipfile

import pytest
import torch

from npt_viz.identity import damage_of, file_kind


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


def saved(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("npt_weights.pt", b"", "an empty file"),
        ("npt_weights.pt", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("npt_weights.pt", b"GGUF\x03", "a GGUF file"),
        ("npt_weights.pt", zipped(), "a zip archive of 1 files (run/config.json)"),
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
    [saved({"x": torch.ones(2)}), pickle.dumps({"x": 1}), saved({})[:40], b"\x08\0\0\0\0\0\0\0{"],
    ids=["torch", "pickle", "cut off", "safetensors"],
)
def test_what_may_hold_adapters_is_left_to_its_reader(tmp_path, content):
    (tmp_path / "npt_weights.pt").write_bytes(content)
    assert file_kind(tmp_path / "npt_weights.pt") is None
    assert damage_of(tmp_path / "npt_weights.pt") is None

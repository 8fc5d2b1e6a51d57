"""Rewritten safetensors files, as the safetensors library reads them."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from npt_viz.editing.files import shards
from npt_viz.editing.files.shards import read_header, rewrite_shard, same_bytes


@pytest.fixture(params=[2**23, 7], ids=["one block a tensor", "blocks of seven bytes"])
def block(request, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", request.param)


def tensors():
    return {
        "a": torch.randn(3, 5),
        "b": torch.randn(2, 7, dtype=torch.float64),
        "c": torch.randn(11).bfloat16(),
        "d": torch.arange(13),
    }


@pytest.fixture
def source(tmp_path):
    save_file(tensors(), tmp_path / "source", metadata={"format": "pt", "note": "é"})
    return tmp_path / "source"


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype)
)
def test_a_rewritten_file_has_the_replaced_tensors_and_all_others(source, tmp_path, dtype):
    before, weights = load_file(source), {"a": torch.randn(3, 5).to(dtype), "c": torch.randn(11).to(dtype)}
    n_tensors, growth = rewrite_shard(source, tmp_path / "target", weights)
    after = load_file(tmp_path / "target")
    assert after.keys() == before.keys()
    for name, expected in (before | weights).items():
        assert after[name].dtype == expected.dtype and torch.equal(after[name], expected)
    assert n_tensors == 4
    assert growth == sum(t.nbytes for t in after.values()) - sum(t.nbytes for t in before.values())
    with safe_open(tmp_path / "target", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "é"}
    assert same_bytes(source, tmp_path / "target", weights)


@pytest.mark.parametrize("length", range(1, 9))
def test_the_bytes_begin_aligned(tmp_path, length):
    save_file({"n" * length: torch.randn(3)}, tmp_path / "source")
    rewrite_shard(tmp_path / "source", tmp_path / "target", {})
    with (tmp_path / "target").open("rb") as file:
        assert int.from_bytes(file.read(8), "little") % 8 == 0
    assert read_header(tmp_path / "target").start % 8 == 0
    assert read_header(tmp_path / "target").metadata is None
    assert load_file(tmp_path / "target").keys() == {"n" * length}


def test_a_file_without_tensors_is_copied(tmp_path):
    save_file({}, tmp_path / "source")
    assert rewrite_shard(tmp_path / "source", tmp_path / "target", {}) == (0, 0)
    assert load_file(tmp_path / "target") == {}


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("name", "abcd")
def test_one_other_byte_is_seen_in_every_tensor(source, tmp_path, name):
    weights = {"a": torch.randn(3, 5)}
    rewrite_shard(source, tmp_path / "target", weights)
    shard, content = read_header(tmp_path / "target"), bytearray((tmp_path / "target").read_bytes())
    content[shard.start + shard.tensors[name]["data_offsets"][1] - 1] ^= 1
    (tmp_path / "target").write_bytes(content)
    assert not same_bytes(source, tmp_path / "target", weights)


def test_other_names_are_other_files(source, tmp_path):
    fewer = tensors()
    del fewer["d"]
    save_file(fewer, tmp_path / "fewer")
    assert not same_bytes(source, tmp_path / "fewer", {})


def test_a_file_that_was_cut_is_not_copied(source, tmp_path):
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(OSError, match="ends in the middle of a tensor"):
        rewrite_shard(source, tmp_path / "target", {})


def test_tensors_come_in_the_order_of_their_bytes(source):
    offsets = [entry["data_offsets"] for entry in read_header(source).tensors.values()]
    assert offsets == sorted(offsets) and offsets[0][0] == 0
    assert read_header(source).start + offsets[-1][1] == source.stat().st_size

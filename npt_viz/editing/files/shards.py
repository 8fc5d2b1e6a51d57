"""Rewrite safetensors files tensor by tensor: other bytes are streamed, so that a file is never in memory as a whole.

Layout: eight bytes with the header's length, a JSON header (name -> dtype, shape, offsets), then the bytes.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

BLOCK = 2**23
DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


class Shard(NamedTuple):
    """Header of a safetensors file."""

    metadata: Mapping | None
    tensors: Mapping[str, dict]
    """Name -> {dtype, shape, data_offsets}, in the order of the bytes"""
    start: int
    """Where the bytes begin."""


def rewrite_shard(source: Path, target: Path, weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Copy a file with some tensors replaced; returns the number of tensors and the bytes by which it grew.

    Metadata, names, order and all other bytes stay; a replaced tensor brings its own dtype.
    """
    shard = read_header(source)
    header: dict = {} if shard.metadata is None else {"__metadata__": shard.metadata}
    offset = 0
    for name, entry in shard.tensors.items():
        begin, end = entry["data_offsets"]
        size = end - begin if name not in weights else weights[name].nbytes
        dtype = entry["dtype"] if name not in weights else DTYPE_NAMES[weights[name].dtype]
        header[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # Readers may map the bytes: they begin aligned.
    with source.open("rb") as old, target.open("wb") as new:
        new.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, entry in shard.tensors.items():
            if name in weights:
                new.write(_bytes(weights[name]))
            else:
                for block in _blocks(old, shard.start, entry):
                    new.write(block)
    before = max((entry["data_offsets"][1] for entry in shard.tensors.values()), default=0)
    return len(shard.tensors), offset - before


def same_bytes(source: Path, target: Path, weights: Mapping[str, Tensor]) -> bool:
    """Whether the target equals the source but for these weights, byte by byte."""
    old, new = read_header(source), read_header(target)
    if list(old.tensors) != list(new.tensors):
        return False
    with source.open("rb") as before, target.open("rb") as after:
        for name in old.tensors:
            written = _blocks(after, new.start, new.tensors[name])
            if name in weights:
                if b"".join(written) != _bytes(weights[name]):
                    return False
            elif any(
                a != b for a, b in zip(_blocks(before, old.start, old.tensors[name]), written, strict=True)
            ):
                return False
    return True


def read_header(path: Path) -> Shard:
    """Read the header of a file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None)
    ordered = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    return Shard(metadata, ordered, 8 + length)


def _blocks(file: BinaryIO, start: int, entry: Mapping) -> Iterator[bytes]:
    begin, end = entry["data_offsets"]
    file.seek(start + begin)
    left = end - begin
    while left:
        # Read in full: a shorter block means that the file was cut.
        block = file.read(min(BLOCK, left))
        if not block:
            raise OSError("the file ends in the middle of a tensor")
        left -= len(block)
        yield block


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()

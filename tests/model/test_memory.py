"""The memory that a model needs, estimated before its weights are read, against the bytes of its files."""

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from conftest import tiny_model

from npt_viz import NptVizError, files
from npt_viz.model import memory, opening
from npt_viz.model.memory import out_of_memory_explained
from npt_viz.model.opening import open_model

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def folder(request, tmp_path_factory):
    """A model in bfloat16, whatever dtype it will be opened in; tied weights are in the file once."""
    path = tmp_path_factory.mktemp("model")
    model = tiny_model(dtype=torch.bfloat16)
    if request.param:
        model.hf.config.tie_word_embeddings = True
        model.hf.lm_head.weight = model.hf.model.embed_tokens.weight
    model.hf.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def n_weights(path) -> int:
    """Numbers in the safetensors file, from the shapes in its header."""
    content = (path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def test_the_count_is_that_of_the_architecture(folder):
    """By hand: d_model 24, d_ffn 31, five layers, six query and three key heads of width 4, 258 tokens."""
    attention = 24 * 24 + 2 * 24 * 12 + 24 * 24
    layer = attention + 3 * 24 * 31 + 2 * 24
    config = json.loads((folder / "config.json").read_text())
    n_embeddings = 1 if config["tie_word_embeddings"] else 2
    assert n_weights(folder) == 5 * layer + n_embeddings * 258 * 24 + 24


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_opens_where_it_fits_by_one_byte_and_not_where_it_lacks_one(folder, monkeypatch, dtype):
    needed = n_weights(folder) * DTYPES[dtype]
    monkeypatch.setattr(opening, "free_bytes", lambda device: needed + 1)
    assert open_model(folder, dtype=dtype, device="cpu").memory_bytes() == needed
    monkeypatch.setattr(opening, "free_bytes", lambda device: needed)
    monkeypatch.setattr(opening, "gigabytes", lambda n: f"{n} bytes")
    with pytest.raises(NptVizError, match=f"needs {needed} bytes and cpu has {needed} bytes free"):
        open_model(folder, dtype=dtype, device="cpu")


def test_nothing_is_read_of_a_model_that_does_not_fit(folder, monkeypatch):
    monkeypatch.setattr(opening, "free_bytes", lambda device: 1)
    monkeypatch.setattr(opening, "_weights", lambda *_: pytest.fail("the weights were read"))
    with pytest.raises(NptVizError, match="close other models"):
        open_model(folder, device="cpu")


def test_running_out_says_what_was_needed(folder, monkeypatch):
    """float32 of the file's numbers, as the error names it."""

    def exhausted(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(opening, "free_bytes", lambda device: 10**12)
    monkeypatch.setattr(opening, "_weights", exhausted)
    monkeypatch.setattr(opening, "gigabytes", lambda n: f"{n} bytes")
    with pytest.raises(
        NptVizError, match=rf"\({n_weights(folder) * 4} bytes in float32\) needs more CPU memory"
    ):
        open_model(folder, dtype="float32", device="cpu")


def test_free_memory_of_the_cpu_is_what_the_kernel_calls_available():
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    # Seven other processes may take and give memory between the two readings.
    assert memory.free_bytes(torch.device("cpu")) == pytest.approx(available, rel=0.25)


def test_free_memory_of_a_gpu_is_the_drivers_and_what_torch_reserved_without_using_it(monkeypatch):
    for name, value in {"memory_reserved": 700, "memory_allocated": 300}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5000, 9000))
    assert memory.free_bytes(torch.device("cuda")) == 5000 + 700 - 300


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_explained("this", "do that"):
        raise RuntimeError("shape mismatch")
    sentence = r"this needs more CPU memory than there is \(.* free now\); do that"
    with pytest.raises(NptVizError, match=sentence), out_of_memory_explained("this", "do that"):
        raise MemoryError


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(0, "0.0 GB"), (49_999_999, "0.0 GB"), (50_000_001, "0.1 GB"), (1.25e12, "1250.0 GB")],
)
def test_a_gigabyte_is_a_thousand_million_bytes(n_bytes, words):
    assert files.gigabytes(n_bytes) == words

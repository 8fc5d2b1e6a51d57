"""The memory that a model needs, estimated before its weights are read, against the bytes of its files."""

import errno
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_model
from handmade import format_a

from npt_viz import NptVizError, files
from npt_viz.capture.opening import open_checkpoint
from npt_viz.capture.running import forward_pass
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


RAN_OUT = {
    "python": (MemoryError(), "CPU", None),
    "numpy": (MemoryError("Unable to allocate 1.50 GiB for an array with shape (2, 3)"), "CPU", 1.5 * 2**30),
    "torch on the CPU": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 160000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "CPU",
        160e9,
    ),
    "torch on a GPU": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 31.00 GiB."),
        "GPU",
        31 * 2**30,
    ),
    "the system": (OSError(errno.ENOMEM, "Cannot allocate memory"), "CPU", None),
    "a map of a file": (
        RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"),
        "CPU",
        None,
    ),
}


@pytest.mark.parametrize("name", RAN_OUT)
def test_every_way_to_run_out_is_one_sentence_with_what_was_asked_for(name):
    error, where, asked = RAN_OUT[name]
    assert memory.is_out_of_memory(error) and memory.asked_bytes(error) == (asked and int(asked))
    sentence = memory.out_of_memory_sentence(error, "this", "do that")
    assert sentence.startswith(f"this needs more {where} memory than there is (") and sentence.endswith(
        "; do that"
    )
    assert (
        (f"it asked for {files.gigabytes(asked)} at once, " in sentence)
        if asked
        else ("asked" not in sentence)
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("shape mismatch"),
        ValueError("out of memory"),
        KeyError(1),
    ],
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not memory.is_out_of_memory(error)


def test_a_real_refusal_of_each_library_is_recognised():
    for refused in (
        lambda: torch.empty(2**55, dtype=torch.uint8),
        lambda: np.empty(2**55, np.uint8),
        lambda: bytearray(2**55),
    ):
        with pytest.raises(Exception) as caught:
            refused()
        assert memory.is_out_of_memory(caught.value), caught.value


def test_an_estimate_that_does_not_fit_is_refused_and_one_that_does_is_not(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3_000_000_000)
    memory.check_fits(3_000_000_000, torch.device("cpu"), "it", "do that")
    with pytest.raises(NptVizError, match=r"^it needs about 3.2 GB and cpu has 3.0 GB free; do that$"):
        memory.check_fits(3_200_000_000, torch.device("cpu"), "it", "do that")


def test_an_adapter_is_refused_by_its_shapes_before_a_weight_is_read(tmp_path, monkeypatch):
    """Products of two factors are rank × rank, of v_a and of v_b: 8 r² bytes in float32."""
    rank = 6_000
    torch.save(format_a(1, rank=rank), tmp_path / "wide.pt")
    checkpoint = open_checkpoint(tmp_path / "wide.pt")
    monkeypatch.setattr(checkpoint.files.store, "read", lambda key: pytest.fail("a weight was read"))
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8 * rank**2)
    with pytest.raises(NptVizError, match=r"layer 1 of rank 6,000 \(1.9 MB of weights\) needs about 0.3 GB"):
        checkpoint.adapter(1)


def test_a_pass_that_does_not_fit_is_refused_before_a_layer_runs(tiny_llama, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**10)
    handle = tiny_llama.parts(0).layer.register_forward_pre_hook(lambda *_: pytest.fail("a layer ran"))
    try:
        with pytest.raises(
            NptVizError, match="one pass over 7 tokens with 1 versions of the model needs about"
        ):
            forward_pass(tiny_llama, torch.arange(7)[None])
    finally:
        handle.remove()

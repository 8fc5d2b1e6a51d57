"""A scan that is killed goes on where it was, and comes to the same bytes; memory does not grow with the corpus."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import specimen

import npt_viz
from npt_viz.checkpoint import Checkpoint
from npt_viz.places import ROOT

SCAN = """
import sys, torch, npt_viz
torch.set_num_threads(1)
model_folder, checkpoint, corpus, out = sys.argv[1:]
model = npt_viz.open_model(model_folder, dtype="float32", device="cpu")
opened = npt_viz.open_checkpoint(checkpoint, model)
npt_viz.scan(model, opened, corpus, out=out, window=61, part_tokens=300)
"""


def written(folder: Path, n_texts: int) -> Path:
    random = np.random.default_rng(4)
    file = folder / "corpus.jsonl"
    lines = (
        {"text": "".join(map(chr, random.integers(97, 123, random.integers(20, 90))))} for _ in range(n_texts)
    )
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def begun(on_disk, corpus: Path, out: Path) -> subprocess.Popen:
    arguments = [sys.executable, "-c", SCAN, on_disk.model, on_disk.checkpoint, str(corpus), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_killed_scan_goes_on_and_comes_to_the_same_bytes(on_disk, tmp_path):
    corpus = written(tmp_path, 400)
    whole = begun(on_disk, corpus, tmp_path / "whole")
    cut = begun(on_disk, corpus, tmp_path / "cut")
    parts = tmp_path / "cut" / "parts"
    deadline = time.monotonic() + 120
    while not parts.exists() or len(list(parts.glob("[0-9]*.npz"))) < 5:
        assert time.monotonic() < deadline and cut.poll() is None
        time.sleep(0.01)
    cut.send_signal(signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL
    n_before = len(list(parts.glob("[0-9]*.npz")))
    assert not (tmp_path / "cut" / "scan.json").exists()
    stamps = {file.name: file.stat().st_mtime_ns for file in parts.glob("[0-9]*.npz")}
    again = begun(on_disk, corpus, tmp_path / "cut")
    assert again.wait() == 0 and whole.wait() == 0
    n_parts = json.loads((tmp_path / "whole" / "scan.json").read_text())["n_parts"]
    assert 5 <= n_before < n_parts
    assert all((parts / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items()), "not done twice"
    for name in ("scan.json", "numbers.parquet", "groups.parquet", "worst.parquet"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert npt_viz.compare_scans(tmp_path / "cut", tmp_path / "whole").of("kl").verdict == "the same"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tiny_llama, tmp_path):
    checkpoint = Checkpoint.from_adapters({3: specimen(tiny_llama, "N5", 3)}, tiny_llama, "x")
    corpus = written(tmp_path, 900)
    peaks = {}
    for max_tokens in (2_000, 4_000, 40_000):
        tracemalloc.start()
        found = npt_viz.scan(
            tiny_llama,
            checkpoint,
            corpus,
            out=tmp_path / str(max_tokens),
            max_tokens=max_tokens,
            part_tokens=2000,
        )
        peaks[max_tokens] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.n_tokens == max_tokens
    assert peaks[40_000] < 1.3 * peaks[4_000], peaks

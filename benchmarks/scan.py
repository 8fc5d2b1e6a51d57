"""Tokens a second of a scan against a bare forward pass over the same windows, and the peak of memory by size of the corpus.

python -m benchmarks.scan [--tokens 4096] [--pairs 5] [--most 1000000] [--only memory]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.scanning.corpus import Corpus, Reader
from npt_viz.scanning.measuring import BATCH_TOKENS, Measurer, Task
from npt_viz.scanning.windows import Part, parts

WINDOW = 256

MEMORY = """
import sys, torch
from pathlib import Path
sys.path.insert(0, "tests")
from conftest import specimen, tiny_model
import npt_viz
from npt_viz.checkpoint import Checkpoint
torch.set_num_threads(1)
model = tiny_model()
checkpoint = Checkpoint.from_adapters({3: specimen(model, "N5", 3)}, model, "specimen")
found = npt_viz.scan(model, checkpoint, sys.argv[1], max_tokens=int(sys.argv[2]))
assert found.n_tokens == int(sys.argv[2])
# Not ru_maxrss: it counts what the process that started this one held.
status = Path("/proc/self/status").read_text().splitlines()
print(1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1]))
"""


def checkpoint_of(model: BaseModel, layers, targets) -> Checkpoint:
    shape = {"d_model": model.d_model, "d_ffn": model.d_ffn, "rank": 64, "components": 1}
    adapters = {i: random_adapter(i, Semantics(), targets, **shape, std=0.01) for i in layers}
    return Checkpoint.from_adapters(adapters, model, "random")


def some(model: BaseModel, n_tokens: int) -> Part:
    """Windows of the sample, all of one length."""
    cut = parts(model, Reader(Corpus(paths=("sample",))), window=WINDOW, part_tokens=1)
    windows = [window for part in cut for window in part.windows if len(window.ids) == WINDOW]
    return Part(0, tuple(windows[: n_tokens // WINDOW]), 1.0, 1)


@torch.no_grad()
def bare(model: BaseModel, part: Part, texts: int, *, logits: bool) -> None:
    """The base alone over the windows, so many side by side; with logits as far as a scan unembeds them."""
    ids = torch.from_numpy(np.stack([window.ids for window in part.windows]))
    for batch in ids.split(texts):
        with model.lock:
            final = model.backbone(input_ids=batch.to(model.device), use_cache=False).last_hidden_state
            if logits:
                for piece in final.flatten(0, 1).split(512):
                    model.unembedding(piece)


def speed(n_tokens: int, pairs: int) -> None:
    model = npt_viz.open_model("smollm2-135m")
    part, side = some(model, n_tokens), BATCH_TOKENS // WINDOW
    print(f"\n{model.name} in {model.dtype}, {part.n_tokens:,} tokens in windows of {WINDOW}; {machine()}\n")
    print("| what is scanned | tokens/s | bare forward, same batches | share | least | most | ideal |")
    print("|---|---|---|---|---|---|---|")
    ways = {
        "layer 15 of 30, local, no predictions": ([15], ("gate", "up"), dict(predict=False)),
        "layer 15 of 30, local, with predictions": ([15], ("gate", "up"), dict()),
        "layer 28 of 30, local, with predictions": ([28], ("gate", "up"), dict()),
        "layers 10, 15, 20, 25, propagated": (
            [10, 15, 20, 25],
            ("gate", "up", "down"),
            dict(mode="propagated"),
        ),
    }
    for name, (layers, targets, how) in ways.items():
        checkpoint = checkpoint_of(model, layers, targets)
        adapters = {layer: checkpoint.adapter(layer) for layer in layers}
        measurer = Measurer(model, adapters, Task(layers=tuple(layers), **how))
        ratio = paired(
            lambda m=measurer: m.summary(part), lambda: bare(model, part, side, logits=True), pairs=pairs
        )
        depth, first = model.n_layers, min(layers)
        lanes = 2 * depth - first if how.get("predict", True) else max(layers) + 1
        print(
            f"| {name} | {part.n_tokens / ratio.candidate:,.0f} | {part.n_tokens / ratio.baseline:,.0f} | "
            f"{1 / ratio.median:.2f} | {1 / ratio.high:.2f} | {1 / ratio.low:.2f} | {depth / lanes:.2f} |",
            flush=True,
        )
    print(
        "\nshare: tokens a second of the scan over those of the bare pass, medians of pairs in one run. ideal: layers of one "
        "bare pass over layers that the scan has to run (both lanes from the first NPT layer up), unembedding and the MLPs "
        "of the NPT layers left aside."
    )


def memory(most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "corpus.jsonl"
        random = np.random.default_rng(0)
        with file.open("w") as lines:
            for _ in range(most // 400 + 50):
                text = "".join(map(chr, random.integers(97, 123, random.integers(300, 700))))
                lines.write(json.dumps({"text": text}) + "\n")
        print("\n| tokens (five layers of width 24) | peak memory of the process |")
        print("|---|---|")
        n_tokens = 10_000
        while n_tokens <= most:
            command = [sys.executable, "-c", MEMORY, str(file), str(n_tokens)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {n_tokens:,} | {int(done.stdout.split()[-1]) / 1e6:,.0f} MB |", flush=True)
            n_tokens *= 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("speed", "memory"))
    chosen = parser.parse_args()
    if chosen.only != "memory":
        speed(chosen.tokens, chosen.pairs)
    if chosen.only != "speed":
        memory(chosen.most)


if __name__ == "__main__":
    main()

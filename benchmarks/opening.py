"""What opening takes: a base model against its own bytes, a format A checkpoint against the bytes of one layer.

python -m benchmarks.opening

A random 1B-shaped model (16 layers, 2048/8192, bfloat16) and a rank-256, k = 4 checkpoint of 15 layers are written below the
system's temporary folder first (3.3 GB). Each thing is opened in a process of its own: its peak is the most anonymous memory
(RssAnon) that the process held, less what it held after the imports; pages of mapped files, which the system takes back when
it needs them, are stated beside it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.table import Row, table
from npt_viz.model.opening import open_model
from npt_viz.places import ROOT

LAYERS, D_MODEL, D_FFN = 16, 2048, 8192
RANK, COMPONENTS = 256, 4

CHILD = """
import json, sys, threading, time
import npt_viz, torch, transformers
from npt_viz.model.opening import open_model

def held(kind):
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(kind))

def measured(work):
    before, peak, mapped, stop = held("RssAnon"), [0], [0], threading.Event()
    def watch():
        while not stop.wait(0.002):
            peak[0], mapped[0] = max(peak[0], held("RssAnon")), max(mapped[0], held("RssFile"))
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    return found, {"peak": peak[0] - before, "mapped": mapped[0], "seconds": seconds}

model_path, checkpoint_path, dtype = sys.argv[1:]
model, opening = measured(lambda: open_model(model_path, dtype=dtype))
opening["bytes"] = model.memory_bytes()
found = {"model": opening}
if checkpoint_path:
    prompt = list(range(3, 74))
    bare = lambda: model.hf(input_ids=torch.tensor([prompt]), use_cache=False)
    bare()
    found["bare"] = measured(bare)[1]
    def look():
        checkpoint = npt_viz.open_checkpoint(checkpoint_path, model)
        return npt_viz.inspect(model, checkpoint, prompt, layers=[8])
    found["checkpoint"] = measured(look)[1]
print(json.dumps(found))
"""
"""Run in a process of its own: opens, and prints what that took as JSON."""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        table(
            "opening",
            f"a 1B-shaped base model ({LAYERS} layers, {D_MODEL}/{D_FFN}) and rank {RANK}, k = {COMPONENTS}",
        ) as rows,
    ):
        model, checkpoint = Path(folder, "model"), Path(folder, "checkpoint.safetensors")
        write_model(model)
        write_checkpoint(checkpoint)
        for dtype in ("float32", "bfloat16"):
            found = opened(model, None, dtype)["model"]
            rows.add(
                Row(
                    what=f"open the base model in {dtype}, peak memory / its bytes",
                    value=found["peak"] / found["bytes"],
                    aim=1.15,
                    how=f"{found['peak'] / 1e9:.2f} GB against {found['bytes'] / 1e9:.2f}; mapped files {found['mapped'] / 1e9:.2f} GB; "
                    f"{found['seconds']:.1f} s",
                )
            )
        found = opened(model, checkpoint, "bfloat16")
        look, size = found["checkpoint"], checkpoint.stat().st_size
        bare = found["bare"]
        layer = size / (LAYERS - 1)
        rows.add(
            Row(
                what=f"open {size / 1e9:.2f} GB of format A and inspect one layer, peak memory beyond a bare forward / the layer's bytes",
                value=(look["peak"] - bare["peak"]) / layer,
                aim=1.5,
                how=f"{look['peak'] / 1e6:.0f} MB, of a bare forward {bare['peak'] / 1e6:.0f}; the layer has {layer / 1e6:.0f} MB; mapped files {look['mapped'] / 1e9:.2f} GB",
            )
        )
        rows.add(
            Row(
                what="… beyond the bare forward",
                value=look["seconds"] - bare["seconds"],
                unit="s",
                aim=2,
                how=f"{look['seconds']:.2f} s; a bare forward of 71 tokens {bare['seconds']:.2f} s",
            )
        )


def opened(model: Path, checkpoint: Path | None, dtype: str) -> dict:
    """What a fresh process says of opening these."""
    command = [sys.executable, "-c", CHILD, str(model), str(checkpoint or ""), dtype]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def write_model(folder: Path, *, layers: int = LAYERS, d_model: int = D_MODEL, d_ffn: int = D_FFN) -> None:
    """A random model of the Llama type in bfloat16, with SmolLM2's tokenizer."""
    tokenizer = open_model("smollm2-135m").tokenizer
    config = LlamaConfig(
        hidden_size=d_model, intermediate_size=d_ffn, num_hidden_layers=layers, num_attention_heads=d_model // 64,
        num_key_value_heads=8, vocab_size=len(tokenizer), tie_word_embeddings=True, dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1)
            else:
                parameter.normal_(std=0.02, generator=generator)
    model.save_pretrained(folder, max_shard_size="1GB")
    tokenizer.save_pretrained(folder)


def write_checkpoint(file: Path) -> None:
    """Random adapters of every layer but the first, in format A."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_down": (D_MODEL, RANK), "W_a_up": (RANK, D_MODEL), "W_b_up": (RANK, D_FFN)}
    save_file(
        {
            f"layer_{layer}_np.{name}.{j}": torch.randn(shape, generator=generator).mul_(0.02)
            for layer in range(1, LAYERS)
            for j in range(COMPONENTS)
            for name, shape in shapes.items()
        },
        file,
    )


if __name__ == "__main__":
    main()

"""What npt_viz says of every kind of file that is given as a checkpoint: the table in docs/formats.md.

python -m benchmarks.said_of_files            print the table
python -m benchmarks.said_of_files --write    renew it in docs/formats.md
"""

import json
import pickle
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from npt_viz.capture.opening import open_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.model.opening import open_model

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
START, END = "<!-- said of files: python -m benchmarks.said_of_files --write -->\n", "<!-- end -->\n"
D_MODEL, D_FFN, RANK = 24, 31, 7

ROWS: list[tuple[str, Callable[[Path], Path]]] = []
"""(what is given, maker of it in an empty folder, which returns the path that is opened)"""


def row(given: str):
    """Add a maker to the table."""

    def added(maker: Callable[[Path], Path]):
        ROWS.append((given, maker))
        return maker

    return added


def format_a(layer: int, prefix: str = "") -> dict[str, Tensor]:
    """One gate-only layer."""
    shapes = {"W_down": (D_MODEL, RANK), "W_a_up": (RANK, D_MODEL), "W_b_up": (RANK, D_FFN)}
    generator = torch.Generator().manual_seed(layer)
    return {
        f"{prefix}layer_{layer}_np.{role}": 0.3 * torch.randn(shape, generator=generator)
        for role, shape in shapes.items()
    }


def format_b(layer: int) -> dict[str, Tensor]:
    """One S2 layer beside a gate of the base."""
    shapes = {"A_proj": (RANK, D_MODEL), "B_model": (D_MODEL, RANK), "B_ffn": (D_FFN, RANK)}
    generator = torch.Generator().manual_seed(layer)
    adapter = {
        f"model.layers.{layer}.adapter.{role}.weight": 0.3 * torch.randn(shape, generator=generator)
        for role, shape in shapes.items()
    }
    return adapter | {f"model.layers.{layer}.mlp.gate_proj.weight": torch.ones(D_FFN, D_MODEL)}


def run_of(folder: Path, *stages: str) -> Path:
    """A run directory with these stages."""
    for stage in stages:
        (folder / "checkpoints" / stage).mkdir(parents=True)
        torch.save(format_a(1), folder / "checkpoints" / stage / "npt_weights.pt")
        torch.save({"step": 5, "optimizer": {}}, folder / "checkpoints" / stage / "training_state.pt")
    (folder / "config.json").write_text('{"np_rank": 7}')
    (folder / "training_log.jsonl").write_text('{"step": 1}\n')
    return folder


def shards(folder: Path, suffix: str, *, count: int = 2) -> list[Path]:
    """One layer in each of `count` shards, with their index."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    files = [folder / f"{stem}-{i + 1:05d}-of-{count:05d}{suffix}" for i in range(count)]
    listed = {}
    for layer, file in enumerate(files):
        tensors = format_b(layer)
        (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
        listed |= dict.fromkeys(tensors, file.name)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": listed}))
    return files


@row("a run with `best`, `final`, `checkpoint-900` in `checkpoints/`")
def _(folder):
    return run_of(folder, "best", "final", "checkpoint-900")


@row("an output folder with `checkpoint-best`, `checkpoint-final`, `checkpoint-900` side by side")
def _(folder):
    run_of(folder, "checkpoint-best", "checkpoint-final", "checkpoint-900")
    for stage in (folder / "checkpoints").iterdir():
        shutil.move(stage, folder / stage.name)
    (folder / "checkpoints").rmdir()
    return folder


@row("a parent folder of three runs")
def _(folder):
    for name in ("gate", "gate-up", "triple"):
        run_of(folder / name, "best")
    return folder


@row("a sharded `.safetensors` folder, or one of its shards")
def _(folder):
    return shards(folder, ".safetensors")[1]


@row("a sharded `.bin` folder, or one of its shards")
def _(folder):
    return shards(folder, ".bin")[0].parent


@row("one shard of two, its index beside it")
def _(folder):
    first, second = shards(folder, ".bin")
    second.unlink()
    return first


@row("one shard of three, alone")
def _(folder):
    files = shards(folder, ".safetensors", count=3)
    for file in [*files[1:], folder / "model.safetensors.index.json"]:
        file.unlink()
    return files[0]


@row("all shards, without their index")
def _(folder):
    files = shards(folder, ".bin")
    (folder / "pytorch_model.bin.index.json").unlink()
    return files[0]


@row("an index that lists two of three shards")
def _(folder):
    shards(folder, ".bin", count=3)
    index = folder / "pytorch_model.bin.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    kept = {name: shard for name, shard in listed.items() if "00003-of" not in shard}
    index.write_text(json.dumps({"weight_map": kept}))
    return folder


for _prefix in ("module.", "_orig_mod.", "base_model.model.", "student.", "module._orig_mod.student."):

    @row(f"every name with the prefix `{_prefix}`")
    def _(folder, prefix=_prefix):
        torch.save(format_a(1, prefix) | format_a(2, prefix), folder / "npt_weights.pt")
        return folder / "npt_weights.pt"


@row("half of the layers with the prefix `module.`")
def _(folder):
    torch.save(format_a(1) | format_a(2, "module."), folder / "npt_weights.pt")
    return folder / "npt_weights.pt"


@row("one tensor of a layer with the prefix `module.`, the others without")
def _(folder):
    tensors = format_a(1)
    torch.save(
        tensors | {"module.layer_1_np.W_down": tensors.pop("layer_1_np.W_down")}, folder / "npt_weights.pt"
    )
    return folder / "npt_weights.pt"


@row("a name that is nearly an adapter's, `layer_2_np.W_down_top`")
def _(folder):
    renamed = {name.replace("W_down", "W_down_top"): tensor for name, tensor in format_a(2).items()}
    torch.save(format_a(1) | renamed, folder / "npt_weights.pt")
    return folder / "npt_weights.pt"


for _wrapper in ("model_state_dict", "model", "module", "npt_weights", "state_dict"):

    @row(f"the weights inside `{_wrapper}`, beside an optimiser")
    def _(folder, wrapper=_wrapper):
        optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}}
        torch.save({wrapper: format_a(1), "optimizer": optimiser, "step": 7}, folder / "npt_weights.pt")
        return folder / "npt_weights.pt"


@row("two models in one file, `student` and `teacher`")
def _(folder):
    torch.save({"student": format_a(1), "teacher": format_a(1)}, folder / "npt_weights.pt")
    return folder / "npt_weights.pt"


@row("two models in one file, `best` and `ema`, of which neither is known to be meant")
def _(folder):
    torch.save({"best": format_a(1), "ema": format_a(1)}, folder / "npt_weights.pt")
    return folder


@row("two models side by side, by the prefixes `student.` and `ema.`")
def _(folder):
    save_file(format_a(1, "student.") | format_a(1, "ema."), folder / "npt_weights.safetensors")
    return folder


@row("`W_down` beside `W_down.1`, and so on")
def _(folder):
    numbered = {f"{name}.1": tensor + 1 for name, tensor in format_a(1).items()}
    save_file(format_a(1) | numbered, folder / "npt_weights.safetensors")
    return folder


@row("a full state_dict in which one tensor has two names")
def _(folder):
    tensors = format_b(1)
    for name in list(tensors):
        tensors[name.replace("model.layers.1.", "model.layers.1.wrapped.")] = tensors[name]
    embedding = torch.ones(5, D_MODEL)
    tensors |= {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding, "tied": embedding}
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


@row("an adapter of meta tensors")
def _(folder):
    torch.save({name: tensor.to("meta") for name, tensor in format_a(1).items()}, folder / "npt_weights.pt")
    return folder


for _name in (
    "training_state.pt",
    "multi_layer_state.pt",
    "training_info.pt",
    "optimizer.bin",
):

    @row(f"`{_name}` beside the weights of a stage")
    def _(folder, name=_name):
        file = run_of(folder, "best") / "checkpoints" / "best" / name
        torch.save({"step": 5}, file)
        return file


for _name in ("config.json", "training_log.jsonl"):

    @row(f"`{_name}` of a run")
    def _(folder, name=_name):
        return run_of(folder, "best") / name


@row("`injection_history.json`, nothing beside it")
def _(folder):
    (folder / "injection_history.json").write_text("[]")
    return folder / "injection_history.json"


@row("a folder with a training log and nothing else")
def _(folder):
    (folder / "training_log.jsonl").write_text('{"step": 1}\n')
    return folder


@row("an empty folder")
def _(folder):
    return folder


@row("a zipped folder")
def _(folder):
    run_of(folder / "run", "best")
    return Path(shutil.make_archive(str(folder / "run"), "zip", folder / "run"))


@row("a folder as `.tar.gz`")
def _(folder):
    run_of(folder / "run", "best")
    with tarfile.open(folder / "run.tar.gz", "w:gz") as archive:
        archive.add(folder / "run", "run")
    return folder / "run.tar.gz"


@row("a Git LFS pointer")
def _(folder):
    (folder / "npt_weights.pt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    return folder


@row("an empty file")
def _(folder):
    (folder / "npt_weights.pt").touch()
    return folder / "npt_weights.pt"


@row("a NumPy archive, `.npz`")
def _(folder):
    np.savez(folder / "npt_weights.npz", W_down=format_a(1)["layer_1_np.W_down"].numpy())
    return folder / "npt_weights.npz"


@row("a pickle of arrays, not by torch.save")
def _(folder):
    arrays = {name: tensor.numpy() for name, tensor in format_a(1).items()}
    (folder / "npt_weights.pkl").write_bytes(pickle.dumps(arrays))
    return folder / "npt_weights.pkl"


@row("the page of an error, saved by a download")
def _(folder):
    (folder / "npt_weights.pt").write_text("<!DOCTYPE html><html><title>404: not found</title></html>")
    return folder


@row("a device, `/dev/null`")
def _(folder):
    return Path("/dev/null")


@row("a truncated file")
def _(folder):
    torch.save(format_a(1), folder / "npt_weights.pt")
    (folder / "npt_weights.pt").write_bytes((folder / "npt_weights.pt").read_bytes()[:1000])
    return folder / "npt_weights.pt"


@row("a `.gguf` file")
def _(folder):
    (folder / "base.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    return folder / "base.gguf"


@row("a base model's weights")
def _(folder):
    gate = torch.ones(D_FFN, D_MODEL)
    save_file({"model.layers.1.mlp.gate_proj.weight": gate}, folder / "model.safetensors")
    return folder


@row("a LoRA adapter")
def _(folder):
    save_file({"base_model.model.q.lora_A.weight": torch.ones(2, 3)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return folder


@row("as the base model: a `.gguf` file of which only the start is there")
def _(folder):
    (folder / "base.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(16))
    return folder / "base.gguf"


@row("as the base model: an empty `.gguf` file")
def _(folder):
    (folder / "base.gguf").touch()
    return folder / "base.gguf"


def said(given: str, maker: Callable[[Path], Path]) -> str:
    """What is said of one file, without the folder it was made in."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "run"
        folder.mkdir()
        path = maker(folder)
        try:
            if given.startswith("as the base model"):
                return _plain(f"opens: {open_model(path).name}", folder)
            report = open_checkpoint(path).report
            # The doubt about N1 and N2, and what is known of no base, are the same for every file.
            told = [
                w for w in report.warnings if "share all key names" not in w and "modulation_scale" not in w
            ]
            return _plain("opens: " + "; ".join([report.sentence.partition("; ")[0], *told]), folder)
        except NptVizError as error:
            return _plain(f"refused: {error}", folder)


def _plain(sentence: str, folder: Path) -> str:
    return sentence.replace(f"{folder}/", "").replace(str(folder), folder.name).replace("|", "\\|")


def table() -> Iterator[str]:
    """Lines of the table."""
    yield "| given | said |"
    yield "|---|---|"
    for given, maker in ROWS:
        yield f"| {given} | {said(given, maker)} |"


def renewed(document: str) -> str:
    """The document with the table of now."""
    before, _, rest = document.partition(START)
    return before + START + "\n".join(table()) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--write" in sys.argv:
        write_whole(DOCUMENT, renewed(DOCUMENT.read_text(encoding="utf-8")))
    else:
        print("\n".join(table()))

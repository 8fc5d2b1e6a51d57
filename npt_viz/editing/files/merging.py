"""Merged model: a Hugging Face folder with the base's files, in which only the edited weights differ."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

from npt_viz.capture.running import forward_pass
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.files.shards import rewrite_shard, same_bytes
from npt_viz.editing.realised import edited_weight, projection_weight
from npt_viz.editing.updates import Place, Update, accumulated
from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.model.base import BaseModel
from npt_viz.model.memory import free_bytes
from npt_viz.model.quiet import quiet_transformers
from npt_viz.model.tokens import encode, save_tokenizer

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
CONFIG = "config.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
PROBE = "The capital of France is Paris, and 2 + 3 = 5."
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Largest relative difference of the probe's logits: the weights are rounded once where the preview is not."""


class BaseFiles(NamedTuple):
    """The safetensors files that a base model was loaded from."""

    folder: Path
    shard_of: Mapping[str, str]
    """Tensor -> the file it is in"""

    @property
    def shards(self) -> list[str]:
        """Names of the files with weights; other weight files in the folder, for other tools, do not count."""
        return sorted(set(self.shard_of.values()))


def base_files(model: BaseModel) -> BaseFiles | None:
    """Safetensors files of the base; None where it was made in memory or comes from a .gguf file."""
    name = getattr(model.config, "_name_or_path", "")
    folder = Path(name) if name else None
    if folder is not None and (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return BaseFiles(folder, index["weight_map"])
    if folder is not None and (folder / SINGLE).is_file():
        with safe_open(folder / SINGLE, "pt") as file:
            return BaseFiles(folder, dict.fromkeys(file.keys(), SINGLE))
    return None


def merged_bytes(model: BaseModel) -> int:
    """Size of a merged model on disk, approximately."""
    base = base_files(model)
    if base is None:
        return model.memory_bytes()
    return sum((base.folder / shard).stat().st_size for shard in base.shards)


def write_merged(model: BaseModel, updates: Sequence[Update], folder: Path) -> list[str]:
    """Write the merged model into `folder` and read it back; returns what was checked, in sentences.

    An edited weight is computed in float32 from the model as it is open and stored in that model's dtype; all
    other tensors keep the bytes of the base's files.
    """
    weights = {
        place.parameter: edited_weight(projection_weight(model, place), factors, model.dtype)
        for place, factors in accumulated(updates).items()
    }
    base = base_files(model)
    dtype = str(model.dtype).removeprefix("torch.")
    if base is None or not set(weights) <= set(base.shard_of):
        _save_from_memory(model, weights, folder)
        kept = "all tensors were written from memory, because the base has no safetensors files of its own"
    else:
        _check_unchanged(model, base, list(accumulated(updates)))
        n_kept = _rewrite(base, weights, folder)
        kept = f"{n_kept} other tensors have the bytes of the base's files, in the same shards"
    return [
        f"{len(weights)} edited weights in {dtype}; {kept}",
        _reloaded(model, updates, folder),
        f"load it with dtype={dtype} to have what was previewed; a smaller dtype rounds the edit",
    ]


def _check_unchanged(model: BaseModel, base: BaseFiles, places: Sequence[Place]) -> None:
    """The files still hold the weights that the open model was made from."""
    for place in places:
        shard = base.folder / base.shard_of[place.parameter]
        with safe_open(shard, "pt") as file:
            stored = file.get_tensor(place.parameter)
        opened = projection_weight(model, place).cpu()
        if stored.shape != opened.shape or not torch.equal(stored.to(opened.dtype), opened):
            raise NptVizError(
                f"{shard}: {place.parameter} is not what the open model has; the files changed since: open the model again"
            )


def _rewrite(base: BaseFiles, weights: Mapping[str, Tensor], folder: Path) -> int:
    """Copy the base's files, shards with edited weights made anew; the number of untouched tensors in all shards."""
    n_kept, grown = 0, 0
    for shard in base.shards:
        edited = {name: tensor for name, tensor in weights.items() if base.shard_of[name] == shard}
        n_tensors, more = rewrite_shard(base.folder / shard, folder / shard, edited)
        if not same_bytes(base.folder / shard, folder / shard, edited):
            raise OSError(f"{shard} does not read back as it was written")
        n_kept += n_tensors - len(edited)
        grown += more
    others = [path for path in base.folder.iterdir() if path.is_file() and path.suffix not in WEIGHT_SUFFIXES]
    # config.json comes last: without it no tool takes the folder for a model.
    for path in sorted(others, key=lambda path: path.name == CONFIG):
        if path.name == INDEX:
            _write_index(path, folder / INDEX, grown)
        elif not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    return n_kept


def _write_index(source: Path, target: Path, grown: int) -> None:
    index = json.loads(source.read_text(encoding="utf-8"))
    if "total_size" in index.get("metadata", {}):
        index["metadata"]["total_size"] += grown
    target.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _save_from_memory(model: BaseModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    state = dict(model.hf.state_dict())
    if any(tensor.is_meta for tensor in state.values()):
        raise NptVizError(
            f"{model.name} has no safetensors files and is not wholly in memory, so it cannot be merged; "
            "export a LoRA adapter, or open the model without offloading"
        )
    with quiet_transformers():
        model.hf.save_pretrained(folder, state_dict=state | dict(weights))
        save_tokenizer(model.tokenizer, folder)


@torch.no_grad()
def _reloaded(model: BaseModel, updates: Sequence[Update], folder: Path) -> str:
    """Open the folder with plain transformers and compare its logits with the preview's."""
    needs = 1.3 * model.memory_bytes()
    if needs > free_bytes(torch.device("cpu")):
        return f"every tensor was read back; the model was not run again, because that takes {gigabytes(needs)} of memory"
    ids = torch.tensor([encode(model, PROBE).ids])
    final = forward_pass(model, ids, [edited_lane(model, updates)]).final
    expected = model.unembedding(final)[0].float().cpu()
    with quiet_transformers():
        reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype, use_safetensors=True)
    logits = reloaded.eval()(input_ids=ids, use_cache=False).logits[0].float()
    difference = float((logits - expected).norm() / expected.norm())
    if not difference <= TOLERANCE.get(model.dtype, 8e-2):
        raise NptVizError(
            f"the merged model does not compute what was previewed (logits differ by {difference:.1e} of their norm); "
            "nothing was exported: please report this"
        )
    return f"reloaded with transformers: logits of a probe text differ from the preview by {difference:.1e} of their norm"

"""Write an edited model as a LoRA adapter, a merged model or a recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from safetensors.torch import load_file, save_file

from npt_viz.editing.files.card import write_card
from npt_viz.editing.files.merging import merged_bytes, write_merged
from npt_viz.editing.files.recipe import RECIPE_FILE, recipe_text
from npt_viz.editing.updates import Factors, Place, Update, accumulated
from npt_viz.errors import NptVizError
from npt_viz.files import whole_folder
from npt_viz.model.base import BaseModel
from npt_viz.places import typed_path

LORA_WEIGHTS = "adapter_model.safetensors"
LORA_CONFIG = "adapter_config.json"


ExportKind = Literal["lora", "merged", "recipe"]
"""lora: a PEFT adapter folder; merged: a Hugging Face model folder; recipe: JSON from which a ledger is made again."""

EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)


class Exported(NamedTuple):
    """A written folder and what was checked in it."""

    folder: Path
    notes: tuple[str, ...]
    """What was checked and what to know, in sentences."""


def export(model: BaseModel, updates: Sequence[Update], folder: str | Path, kind: str = "lora") -> Exported:
    """Write base + updates as something other tools load; the folder appears whole or not at all.

    kind: one of EXPORT_KINDS.
    Raises NptVizError where there is no update, the folder exists, or writing fails.
    """
    if kind not in EXPORT_KINDS:
        raise NptVizError(f"export kind {kind!r} does not exist; choose one of {', '.join(EXPORT_KINDS)}")
    if not updates:
        raise NptVizError("the ledger is empty, so there is nothing to export; apply an update first")
    # Named here: inside the block it would be the folder's hidden sibling.
    folder = typed_path(folder).absolute()
    needs = merged_bytes(model) if kind == "merged" else 0
    with whole_folder(folder, needs_bytes=needs) as new:
        (new / RECIPE_FILE).write_text(recipe_text(model, updates), encoding="utf-8")
        if kind == "merged":
            notes = write_merged(model, updates, new)
        elif kind == "lora":
            notes = _write_lora(accumulated(updates), model.name, new)
        else:
            notes = [f"replay it with a base that has the fingerprint of {model.name}"]
        if kind != "recipe":
            write_card(new, folder.name, kind, model.name, updates, notes)
    return Exported(folder, tuple(notes))


def _write_lora(total: dict[Place, Factors], base: str, folder: Path) -> list[str]:
    """α v_b v_aᵀ is a LoRA of as many ranks as factors: lora_A = v_a, lora_B = α v_bᵀ, scaling 1."""
    fitting = {
        place: parts if len(parts) <= min(parts.v_a.shape[1], parts.v_b.shape[1]) else parts.thinned()
        for place, parts in total.items()
    }
    ranks = {place.parameter.removesuffix(".weight"): len(parts) for place, parts in fitting.items()}
    rank = max(ranks.values())
    tensors = {}
    for place, parts in fitting.items():
        name = f"base_model.model.{place.parameter.removesuffix('.weight')}"
        tensors[f"{name}.lora_A.weight"] = torch.from_numpy(parts.v_a)
        tensors[f"{name}.lora_B.weight"] = torch.from_numpy(parts.v_b).T.contiguous()
    others = {module: r for module, r in ranks.items() if r != rank}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
    }
    save_file(tensors, folder / LORA_WEIGHTS, metadata={"format": "pt"})
    stored = load_file(folder / LORA_WEIGHTS)
    if any(not torch.equal(stored[name], tensor) for name, tensor in tensors.items()):
        raise OSError("the adapter does not read back as it was written")
    # Last: without it no tool takes the folder for an adapter.
    (folder / LORA_CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return [
        f"rank {rank}, scaling 1, on {', '.join(ranks)}",
        "the adapter is float32; a base in bfloat16 adds it in its own precision",
    ]

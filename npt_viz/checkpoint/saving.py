"""Write checkpoints: the native format, and format A for tools that know only that one."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from npt_viz.adapter import LayerAdapter, Semantics, Target
from npt_viz.arguments import checked
from npt_viz.checkpoint.card import CARD, checkpoint_card, is_ours
from npt_viz.checkpoint.finding import NATIVE_CONFIG, NATIVE_WEIGHTS
from npt_viz.checkpoint.keys import is_transposed, named_tensors, native_keys
from npt_viz.checkpoint.native import FORMAT_VERSION, layer_fields, tensor_hash
from npt_viz.checkpoint.opening import Checkpoint
from npt_viz.checkpoint.store import write_torch_file
from npt_viz.errors import NptVizError
from npt_viz.files import whole_folder
from npt_viz.model.base import BaseModel
from npt_viz.places import typed_path

Dtype = Literal["float32", "bfloat16", "float16"]


class Converted(NamedTuple):
    """Result of a conversion."""

    path: Path
    notes: tuple[str, ...]
    """What the new format does not carry, in sentences."""


@checked
def save_checkpoint(
    folder: str | Path,
    adapters: Mapping[int, LayerAdapter],
    model: BaseModel,
    *,
    recipe: Mapping,
    figures: Mapping,
    licence: str,
    dtype: Dtype = "float32",
    fault: str | None = None,
    initial: Mapping[int, LayerAdapter] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the native format: npt_config.json, npt_weights.safetensors, and a model card README.md.

    recipe, figures: how it was trained and what was measured, as plain JSON values.
    fault: what is wrong with it, for a deliberately bad specimen.
    initial: the adapters before training; their hashes make "still at its initialisation" exact later.
    overwrite: replace an earlier native checkpoint of that name (other files in its folder stay).
    The folder appears when it is complete. Raises NptVizError when it cannot be written.
    """
    if not adapters:
        raise NptVizError(f"{folder}: there is no adapter to save; train a layer first")
    if initial is not None and (missing := sorted(set(adapters) - set(initial))):
        raise NptVizError(
            f"{folder}: the adapters before training have no layer {missing[0]}; give that of every layer, or none"
        )
    tensors, hashes, layers = {}, {}, {}
    for layer, adapter in sorted(adapters.items()):
        tensors |= _stored(adapter, dtype)
        if initial is not None:
            hashes |= {name: tensor_hash(tensor) for name, tensor in _stored(initial[layer], dtype).items()}
        sizes: dict[Target, tuple[int, int]] = {
            target: (part.rank, part.components) for target, part in adapter.learned.items()
        }
        layers[layer] = layer_fields(adapter.semantics, "from the file", sizes)
    config = {
        "format_version": FORMAT_VERSION,
        "base": _base_fields(model, list(adapters)),
        "layers": layers,
        "recipe": recipe,
        "figures": figures,
        "licence": licence,
        "fault": fault,
        "initial_hashes": hashes,
    }
    return _written(typed_path(folder), config, tensors, overwrite)


def save_converted(
    checkpoint: Checkpoint, folder: str | Path, to: str, *, overwrite: bool = False
) -> Converted:
    """Write an opened checkpoint as the native format or as format A; every stored value keeps its bits.

    Raises NptVizError where format A has no keys for it, and where it cannot be written.
    """
    if to == "native":
        return _to_native(checkpoint, typed_path(folder), overwrite)
    if to == "A":
        return _to_format_a(checkpoint, typed_path(folder), overwrite)
    raise NptVizError(f"format {to!r} cannot be written; choose native or A")


def _to_native(checkpoint: Checkpoint, folder: Path, overwrite: bool) -> Converted:
    notes, native, model = [], checkpoint.files.native or {}, checkpoint.model
    layers = {
        layer: layer_fields(
            checkpoint.semantics(layer),
            checkpoint.provenance[layer],
            {
                target: (sizes.rank, sizes.components(checkpoint.semantics(layer).rule))
                for target, sizes in plan.targets.items()
            },
        )
        for layer, plan in checkpoint.layout.layers.items()
    }
    if model is not None:
        base = _base_fields(model, checkpoint.layers)
    else:
        base = native.get("base") or {
            "name": checkpoint.files.claims.get("base_model_name"),
            "fingerprint": None,
        }
    if base["fingerprint"] is None:
        notes.append(
            "no base model was given, so the file has no fingerprint of its base; give the model to record it"
        )
    if "inferred from key names" in checkpoint.provenance.values():
        notes.append(
            "the semantics was inferred from key names, and the new file says so; give semantics to settle it"
        )
    kept = ("recipe", "figures", "licence", "fault")
    config = {"format_version": FORMAT_VERSION, "base": base, "layers": layers}
    config |= {key: native.get(key) for key in kept} | {"initial_hashes": _initial_hashes(checkpoint)}
    config["recipe"] = checkpoint.recipe
    return Converted(_written(folder, config, _renamed(checkpoint), overwrite), tuple(notes))


def _to_format_a(checkpoint: Checkpoint, folder: Path, overwrite: bool) -> Converted:
    foreign = [layer for layer in checkpoint.layers if checkpoint.semantics(layer).rule != "rank_one_sum"]
    if foreign:
        raise NptVizError(
            f"{checkpoint.path}: layer {foreign[0]} follows {checkpoint.semantics(foreign[0]).rule}, for which format A "
            "has no keys; convert it to native"
        )
    plans = [plan for layer in checkpoint.layout.layers.values() for plan in layer.targets.values()]
    base = (checkpoint.files.native or {}).get("base") or {}
    config = {
        "np_rank": max(plan.rank for plan in plans),
        "num_ranks": max(plan.components("rank_one_sum") for plan in plans),
        "npt_layers": list(checkpoint.layers),
        "base_model_name": base.get("name") or checkpoint.files.claims.get("base_model_name"),
        "d_model": checkpoint.layout.d_model,
        "d_ffn": checkpoint.layout.d_ffn,
    }
    with _new_folder(folder, overwrite) as new:
        write_torch_file(new / "npt_weights.pt", _renamed(checkpoint))
        (new / "config.json").write_text(_json(config, folder), encoding="utf-8")
    described = "; ".join(sorted({_in_words(checkpoint.semantics(layer)) for layer in checkpoint.layers}))
    return Converted(
        folder,
        (
            f"format A carries no semantics: tell its reader {described}",
            "format A carries no fingerprint of the base, no recipe and no figures; keep npt_config.json for them",
        ),
    )


def _in_words(semantics: Semantics) -> str:
    return f"attention {semantics.attention}, scale {semantics.scale:g}"


def _renamed(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All adapter tensors as stored, under native names and in native orientation."""
    tensors = {}
    for layer, plan in checkpoint.layout.layers.items():
        is_turned = is_transposed(checkpoint.semantics(layer).rule)
        for target, names in _native_names(checkpoint, layer).items():
            for name, key in names.items():
                tensor = checkpoint.files.store.read(key)
                turn = plan.targets[target].transposed != is_turned
                tensors[name] = tensor.T.contiguous() if turn else tensor.contiguous()
    return tensors


def _native_names(checkpoint: Checkpoint, layer: int) -> dict[Target, dict[str, str]]:
    """Target -> native name -> name in the file, of one layer's tensors."""
    plan, semantics = checkpoint.layout.layers[layer], checkpoint.semantics(layer)
    found: dict[Target, dict[str, str]] = {target: {} for target in plan.targets}
    for target, tensors_of in plan.targets.items():
        keys = tensors_of.keys(semantics.rule)
        count = len(next(iter(keys.values())))
        for argument, names in native_keys(layer, target, plan.targets, semantics, count).items():
            found[target] |= zip(names, keys[argument], strict=True)
    return found


def _initial_hashes(checkpoint: Checkpoint) -> dict[str, str] | None:
    """Hashes of the tensors before training, under native names: an older file may have others."""
    recorded = (checkpoint.files.native or {}).get("initial_hashes")
    if not isinstance(recorded, dict):
        return recorded
    names = [n for layer in checkpoint.layers for n in _native_names(checkpoint, layer).values()]
    return {new: recorded[old] for each in names for new, old in each.items() if old in recorded}


def _stored(adapter: LayerAdapter, dtype: Dtype) -> dict[str, Tensor]:
    """An adapter's tensors as they go into the file."""
    return {
        name: tensor.to("cpu", getattr(torch, dtype)).contiguous().clone()
        for name, tensor in named_tensors(adapter).items()
    }


def _base_fields(model: BaseModel, layers) -> dict:
    return {
        "name": model.name,
        "d_model": model.d_model,
        "d_ffn": model.d_ffn,
        "n_layers": model.n_layers,
        "fingerprint": model.fingerprint(layers),
    }


def _written(folder: Path, config: Mapping, tensors: Mapping[str, Tensor], overwrite: bool) -> Path:
    text = _json(config, folder)
    with _new_folder(folder, overwrite) as new:
        save_file(dict(tensors), new / NATIVE_WEIGHTS, metadata={"format": "pt"})
        (new / NATIVE_CONFIG).write_text(text, encoding="utf-8")
        if is_ours(folder / CARD) or not (folder / CARD).exists():
            (new / CARD).write_text(checkpoint_card(json.loads(text), folder.name), encoding="utf-8")
    return folder


def _json(config: Mapping, folder: Path) -> str:
    try:
        return json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise NptVizError(
            f"{folder}: the config is not plain JSON ({error}); give numbers, strings and lists"
        ) from None


def refuse_foreign(folder: Path) -> None:
    """Raise NptVizError unless the folder holds a checkpoint, which alone may be overwritten."""
    if not any((folder / name).is_file() for name in (NATIVE_CONFIG, "npt_weights.pt")):
        raise NptVizError(f"{folder}: is no checkpoint, so it is not overwritten; choose another name")


@contextmanager
def _new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Temporary folder to write a checkpoint into; only an earlier checkpoint is overwritten."""
    is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if is_taken and overwrite:
        refuse_foreign(folder)
    with whole_folder(folder, overwrite=overwrite or not is_taken) as new:
        yield new
        if is_taken:
            _keep_other_files(folder, new)


def _keep_other_files(folder: Path, new: Path) -> None:
    """Keep logs, samples, a card of one's own and a training's state that lie beside an overwritten checkpoint."""
    for entry in folder.iterdir():
        if entry.name in (NATIVE_CONFIG, NATIVE_WEIGHTS, "npt_weights.pt", "config.json"):
            continue
        if entry.name == CARD and is_ours(entry):
            continue
        if entry.is_dir():
            shutil.copytree(entry, new / entry.name, copy_function=_keep)
        else:
            _keep(entry, new / entry.name)


def _keep(file: str | Path, new: str | Path) -> None:
    """Give a file a second name, which copies nothing, or copy it where that cannot be done."""
    # Neither the target of a symbolic link nor another user's file may change with what happens here.
    if not Path(file).is_symlink() and Path(file).stat().st_uid == os.geteuid():
        with suppress(OSError):
            os.link(file, new)
            return
    shutil.copy2(file, new)

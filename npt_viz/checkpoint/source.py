"""Files of one checkpoint, found from the path a user gives: weights and configs."""

import argparse
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from npt_viz.checkpoint.store import (
    MappingStore,
    SafetensorsStore,
    TensorStore,
    is_safetensors,
    read_torch_file,
)
from npt_viz.errors import NptVizError
from npt_viz.places import located

NATIVE_CONFIG = "npt_config.json"
NATIVE_WEIGHTS = "npt_weights.safetensors"
_SHARD_INDEX = "model.safetensors.index.json"
WEIGHTS = (NATIVE_WEIGHTS, "npt_weights.pt", "accumulated_npt_weights.pt", "model.safetensors")
"""In the order in which they are looked for."""
_NO_WEIGHTS = ("training_state.pt", "training_info.pt", "optimizer.pt", "scheduler.pt", "training_args.bin")


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """Opened weights and configs of one checkpoint; the weights may be in memory only."""

    store: TensorStore
    path: Path | None = None
    """The file, or the folder of the native format and of shards."""
    native: Mapping | None = None
    """npt_config.json"""
    claims: Mapping[str, object] = field(default_factory=dict)
    """What another config, beside the weights or in the file (format C), says; never believed."""
    scale: float | None = None
    """modulation_scale, from training_info.pt or the file's own config."""
    left_over: tuple[str, ...] = ()
    """Entries of the file that are no tensors."""
    notes: tuple[str, ...] = ()
    """Choices made on the way, in sentences."""


def open_files(path: str | Path) -> CheckpointFiles:
    """Open the files of the checkpoint at a path: a weights file, its folder, or a run directory.

    Reads headers and configs only. Raises NptVizError where there is nothing to open or it is damaged.
    """
    files, notes = _weights_files(located(path))
    folder = files[0].parent
    is_native = files[0].name == NATIVE_WEIGHTS and (folder / NATIVE_CONFIG).is_file()
    native = _json(folder / NATIVE_CONFIG) if is_native else None
    store, embedded, left_over = _opened(files)
    scale = (embedded or {}).get("modulation_scale")
    if scale is None and any(".adapter." in name for name in store.infos):
        scale = _trained_scale(folder / "training_info.pt")
    if scale is not None and not (isinstance(scale, int | float) and math.isfinite(scale)):
        raise NptVizError(
            f"{files[0]}: modulation_scale is {scale!r}, not a finite number; correct its config"
        )
    claims, complaint = ({}, ()) if native is not None or embedded else _claims(folder)
    return CheckpointFiles(
        path=folder if native is not None or len(files) > 1 else files[0],
        store=store,
        native=native,
        claims=embedded or claims,
        scale=scale,
        left_over=left_over,
        notes=notes + complaint,
    )


def _weights_files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    if not path.exists():
        raise NptVizError(
            f"{path}: no such file or folder; give a checkpoint file, its folder or a run directory"
        )
    if path.name in (NATIVE_CONFIG, _SHARD_INDEX):
        path = path.parent
    if path.is_file() and not _is_shard(path):
        return [path], ()
    if path.is_file():
        path = path.parent
    files, note = _in_folder(path)
    if files:
        return files, note
    return _in_run(path)


def _in_folder(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The weights that lie directly in a folder."""
    if (folder / NATIVE_CONFIG).is_file():
        if not (folder / NATIVE_WEIGHTS).is_file():
            raise NptVizError(
                f"{folder}: {NATIVE_CONFIG} is there but {NATIVE_WEIGHTS} is missing; copy the whole folder again"
            )
        return [folder / NATIVE_WEIGHTS], ()
    if (folder / _SHARD_INDEX).is_file():
        return _shards(folder / _SHARD_INDEX), ()
    named = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not named:
        loose = [f for f in sorted(folder.iterdir()) if f.suffix in (".pt", ".pth", ".bin", ".safetensors")]
        named = [f for f in loose if f.is_file() and f.name not in _NO_WEIGHTS]
        if len(named) > 1:
            raise NptVizError(
                f"{folder}: holds {len(named)} weights files ({', '.join(f.name for f in named[:5])}); open one of them"
            )
    if len(named) > 1:
        others = ", ".join(file.name for file in named[1:])
        return named[:1], (f"opened {named[0].name}; beside it lies {others}, which opens by its own path",)
    return named, ()


def _in_run(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The checkpoint of a run directory: best, else final, else the last step."""
    home = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    candidates = [child for child in sorted(home.iterdir()) if child.is_dir() and _holds_weights(child)]
    ranks = {child: rank for child in candidates if (rank := _rank(child)) is not None}
    ranked = sorted(ranks, key=ranks.__getitem__)
    if ranked:
        files, note = _in_folder(ranked[0])
        others = ", ".join(child.name for child in ranked[1:])
        chosen = (f"opened {home.name}/{ranked[0].name}; also there: {others}",) if others else ()
        return files, note + chosen
    if candidates:
        raise NptVizError(
            f"{folder}: holds several checkpoints ({', '.join(c.name for c in candidates[:9])}); open one of them"
        )
    raise NptVizError(
        f"{folder}: no checkpoint in it; expected {NATIVE_CONFIG}, {', '.join(WEIGHTS)}, or "
        "checkpoints/best, final or checkpoint-N with one of them: open the folder that holds the weights"
    )


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*WEIGHTS, _SHARD_INDEX))


def _is_shard(file: Path) -> bool:
    """Whether the file is one of several shards, which are opened together."""
    return bool(re.search(r"-\d+-of-\d+\.safetensors$", file.name)) and (file.parent / _SHARD_INDEX).is_file()


def is_stage(name: str) -> bool:
    """Whether a folder of this name is a stage of a run: best, final, checkpoint-N."""
    return _rank(Path(name)) is not None


def _rank(child: Path) -> tuple[int, int] | None:
    if child.name in ("best", "final"):
        return ("best", "final").index(child.name), 0
    if step := re.fullmatch(r"checkpoint-(\d+)", child.name):
        return 2, -int(step[1])
    return None


def _shards(index: Path) -> list[Path]:
    weight_map = _json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise NptVizError(f"{index}: has no weight_map; copy the index again")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name:
            raise NptVizError(f"{index}: names the shard {name!r} outside its folder; that is refused")
        if not (index.parent / name).is_file():
            raise NptVizError(f"{index.parent / name}: this shard is missing; copy the whole folder again")
    return [index.parent / name for name in names]


def _opened(files: list[Path]) -> tuple[TensorStore, Mapping | None, tuple[str, ...]]:
    file = files[0]
    if file.stat().st_size == 0:
        raise NptVizError(f"{file}: is empty; copy or download it again")
    with file.open("rb") as opened:
        start = opened.read(20)
    if start == b"version https://git-":
        raise NptVizError(f"{file}: is a Git LFS pointer, not the weights; run `git lfs pull`")
    if len(files) > 1 or is_safetensors(file) or file.suffix == ".safetensors":
        store = SafetensorsStore(files)
        if len(files) > 1:
            _check_complete(store, file.parent / _SHARD_INDEX)
        return store, None, ()
    content = read_torch_file(file)
    if not isinstance(content, dict):
        raise NptVizError(
            f"{file}: holds a {type(content).__name__}, not a dict of tensors; save the state dict"
        )
    config = content.get("config")
    embedded = config if isinstance(content.get("state_dict"), dict) and isinstance(config, dict) else None
    if isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = {
        name: value for name, value in content.items() if isinstance(value, Tensor) and isinstance(name, str)
    }
    left_over = tuple(str(name) for name in content if name not in tensors)
    return MappingStore(tensors, [file]), embedded, left_over


def _check_complete(store: TensorStore, index: Path) -> None:
    missing = [name for name in _json(index)["weight_map"] if name not in store.infos]
    if missing:
        raise NptVizError(
            f"{index}: lists {missing[0]}, which is in none of the shards ({len(missing)} missing); "
            "copy the whole folder again"
        )


def _trained_scale(file: Path) -> object:
    """modulation_scale, which format B writes only into training_info.pt."""
    if not file.is_file():
        return None
    info = read_torch_file(file, allowed=[argparse.Namespace])
    if not isinstance(info, dict):
        return None
    for part in (info.get("adapter_config"), info.get("args")):
        settings = vars(part) if isinstance(part, argparse.Namespace) else part
        if isinstance(settings, dict) and settings.get("modulation_scale") is not None:
            return settings["modulation_scale"]
    return None


def _claims(folder: Path) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """config.json beside the weights, or of the run directory that they belong to; a damaged one is only a note."""
    run = [folder.parent.parent] if folder.parent.name == "checkpoints" else []
    for place in (folder, *run):
        if (place / "config.json").is_file():
            try:
                return _json(place / "config.json"), ()
            except NptVizError as error:
                return {}, (str(error),)
    return {}, ()


def _json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NptVizError(f"{file}: is no readable JSON ({error}); copy or correct it") from None
    if not isinstance(content, dict):
        raise NptVizError(f"{file}: holds a {type(content).__name__}, not a JSON object; copy or correct it")
    return content

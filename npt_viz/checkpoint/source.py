"""Files of one checkpoint, opened: weights and configs."""

import argparse
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from npt_viz.checkpoint.finding import (
    NATIVE_CONFIG,
    NATIVE_WEIGHTS,
    Found,
    json_object,
    weight_map,
    weights_at,
)
from npt_viz.checkpoint.hub import hub_folder, is_hub_id
from npt_viz.checkpoint.keys import parsed_key
from npt_viz.checkpoint.store import (
    MappingStore,
    SafetensorsStore,
    TensorStore,
    is_safetensors,
    read_torch_file,
)
from npt_viz.errors import NptVizError
from npt_viz.places import located


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
    others: tuple[Path, ...] = ()
    """Checkpoints beside the one that was chosen."""


def open_files(path: str | Path) -> CheckpointFiles:
    """Open the files of the checkpoint at a path: a weights file, its folder, or a run directory; or of a hub id.

    Reads headers and configs only. Raises NptVizError where there is nothing to open or it is damaged.
    """
    where = located(path)
    found = weights_at(hub_folder(where.as_posix()) if not where.exists() and is_hub_id(where) else where)
    files, folder = found.files, found.files[0].parent
    is_native = files[0].name == NATIVE_WEIGHTS and (folder / NATIVE_CONFIG).is_file()
    native = json_object(folder / NATIVE_CONFIG) if is_native else None
    store, embedded, left_over, wrapped = _opened(found)
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
        notes=found.notes + wrapped + complaint,
        others=found.others,
    )


class _Opened(NamedTuple):
    store: TensorStore
    embedded: Mapping | None
    """The config inside the file (format C)."""
    left_over: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _opened(found: Found) -> _Opened:
    file = found.files[0]
    if is_safetensors(file) or file.suffix == ".safetensors":
        store = SafetensorsStore(found.files)
        _check_complete(store.infos, found.listing)
        return _Opened(store, None, ())
    tensors, left_over, notes, embedded = {}, [], [], None
    for part in found.files:
        content = read_torch_file(part)
        if not isinstance(content, dict):
            raise NptVizError(
                f"{part}: holds a {type(content).__name__}, not a dict of tensors; save the state dict"
            )
        if isinstance(content.get("state_dict"), dict) and isinstance(content.get("config"), dict):
            embedded = content["config"]
        inside, outside, told = _unwrapped(content, part)
        left_over += outside
        notes += told if embedded is None else []
        for name, value in _flat(inside):
            if not isinstance(value, Tensor):
                left_over.append(name)
            elif name in tensors:
                raise NptVizError(
                    f"{part}: holds {name}, which another shard has; copy the whole folder again"
                )
            else:
                tensors[name] = value
    _check_complete(tensors, found.listing)
    return _Opened(MappingStore(tensors, found.files), embedded, tuple(left_over), tuple(notes))


READ_FIRST = ("model_state_dict", "model", "module", "state_dict", "npt_weights", "student")
"""Of several dicts with the same layers the first of these is read: the weights as trained, not their average."""


def _unwrapped(content: Mapping, file: Path) -> tuple[Mapping, list[str], list[str]]:
    """The dict that holds the adapters, what else has tensors, and notes: its path in the file, what else it could be.

    Raises NptVizError where several dicts hold the same layers, and none is known to be the one that is meant.
    """
    path, outside, notes = [], [], []
    while not any(parsed_key(str(name)) for name, value in content.items() if isinstance(value, Tensor)):
        holding = [name for name, value in content.items() if isinstance(value, dict) and _has_adapter(value)]
        others = []
        if len(holding) > 1:
            if _are_apart([_places(content[name]) for name in holding]):
                break  # All are read, and their names tell them apart.
            layers = sorted({place[0] for name in holding for place in _places(content[name])})
            there = (
                f"{', '.join(map(str, holding))} each hold adapters of layer {', '.join(map(str, layers))}"
            )
            chosen = next((name for name in READ_FIRST if name in holding), None)
            if chosen is None:
                raise NptVizError(
                    f"{file}: {there}, and nothing tells which is meant; save the one that is meant alone"
                )
            others = [name for name in holding if name != chosen]
            holding = [chosen]
            notes.append(
                f"{there}: {chosen} is read; to read another, save it alone ({', '.join(map(str, others))})"
            )
        if not holding:
            break
        path.append(str(holding[0]))
        outside += [
            str(name)
            for name, value in content.items()
            if name not in (*holding, *others) and _has_tensors(value)
        ]
        content = content[holding[0]]
    where = [f"the weights lie inside {'.'.join(path)} of {file.name}"] if path else []
    return content, outside, where + notes


def _places(content: Mapping) -> set[tuple]:
    """Layer, projection, role and component of the adapters' tensors in nested dicts, whatever stands before the names."""
    names = (parsed_key(name) for name, value in _flat(content) if isinstance(value, Tensor))
    return {key._replace(prefix="") for key in names if key is not None}


def _are_apart(sets: list[set[tuple]]) -> bool:
    return sum(map(len, sets)) == len(set().union(*sets))


def _flat(content: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of nested dicts, joined by dots; a dict without an adapter's tensors stays one value."""
    for name, value in content.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict) and _has_adapter(value, f"{full}."):
            yield from _flat(value, f"{full}.")
        else:
            yield full, value


def _has_adapter(content: Mapping, prefix: str = "") -> bool:
    return any(
        _has_adapter(value, f"{prefix}{name}.")
        if isinstance(value, dict)
        else parsed_key(f"{prefix}{name}") is not None
        for name, value in content.items()
    )


def _has_tensors(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, dict) and any(map(_has_tensors, value.values())))


def _check_complete(names: Collection[str], index: Path | None) -> None:
    missing = [name for name in weight_map(index) if name not in names] if index else []
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
                return json_object(place / "config.json"), ()
            except NptVizError as error:
                return {}, (str(error),)
    return {}, ()

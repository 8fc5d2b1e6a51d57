"""From the path that a user gives to the weights files that are meant, with what was chosen on the way."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.identity import file_kind
from npt_viz.places import absent, refuse_special

NATIVE_CONFIG = "npt_config.json"
NATIVE_WEIGHTS = "npt_weights.safetensors"
WEIGHTS = (
    NATIVE_WEIGHTS,
    "npt_weights.pt",
    "accumulated_npt_weights.pt",
    "model.safetensors",
    "pytorch_model.bin",
)
"""In the order in which they are looked for."""

INDEX = (".safetensors.index.json", ".bin.index.json")
"""How the index of a sharded checkpoint ends, in the order in which they are looked for."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.(?:safetensors|bin|pt|pth))")
_LOOSE = (".pt", ".pth", ".bin", ".safetensors")
_STAGES = ("best", "final", "last")
_LISTED = 9


class Found(NamedTuple):
    """The weights files of one checkpoint."""

    files: Sequence[Path]
    listing: Path | None = None
    """What lists the shards, where they are several."""
    notes: tuple[str, ...] = ()
    """Choices made on the way, in sentences."""
    others: tuple[Path, ...] = ()
    """Checkpoints beside the one that was chosen."""


def weights_at(path: Path) -> Found:
    """The weights files at a path: a file, its folder, a run directory.

    Raises NptVizError with what the path is, and which file beside it is meant, where it holds no weights.
    """
    refuse_special(path)
    if not path.exists():
        raise NptVizError(f"{path}: {absent(path)}; give a checkpoint file, its folder or a run directory")
    if path.is_file():
        if path.name == NATIVE_CONFIG or path.name.endswith(INDEX):
            return weights_at(path.parent)
        if _SHARD.fullmatch(path.name):
            return _shards_of(path)
        _refuse_others(path)
        return Found((path,))
    return _in_folder(path) or _in_run(path)


def _refuse_others(file: Path) -> None:
    """Raise where a file is known to hold no adapter."""
    if (kind := file_kind(file)) is not None:
        raise NptVizError(f"{file}: is {kind.words}; {kind.advice or beside(file.parent)}")


def beside(folder: Path) -> str:
    """Which file of a folder is meant, in words; that there is none where there is none."""
    home = folder.parent if is_stage(folder.name) else folder
    for place in dict.fromkeys((folder, home)):
        try:
            found = _in_folder(place) or _in_run(place)
        except NptVizError:
            continue
        chosen = found.files[0] if len(found.files) == 1 else found.files[0].parent
        return f"the weights that are meant are {_from(folder, chosen)}: open that"
    return "no adapter weights lie beside it: open the file or folder that holds them"


def _from(folder: Path, chosen: Path) -> str:
    return (
        str(chosen.relative_to(folder)) if chosen.is_relative_to(folder) and chosen != folder else str(chosen)
    )


def _in_folder(folder: Path) -> Found | None:
    """The weights that lie directly in a folder."""
    if (folder / NATIVE_CONFIG).is_file():
        if not (folder / NATIVE_WEIGHTS).is_file():
            raise NptVizError(
                f"{folder}: {NATIVE_CONFIG} is there but {NATIVE_WEIGHTS} is missing; copy the whole folder again"
            )
        return Found((folder / NATIVE_WEIGHTS,))
    if indexes := _indexes(folder):
        return _listed(indexes[0])
    named = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not named:
        loose = [f for f in sorted(folder.iterdir()) if f.suffix in _LOOSE and f.is_file()]
        if shards := [file for file in loose if _SHARD.fullmatch(file.name)]:
            return _shards_of(shards[0])
        named = [file for file in loose if file_kind(file) is None]
        if len(named) > 1:
            raise NptVizError(
                f"{folder}: holds {len(named)} weights files ({_names(named)}); open one of them"
            )
    if not named:
        return None
    _refuse_others(named[0])
    if len(named) == 1:
        return Found((named[0],))
    note = f"opened {named[0].name}; beside it lies {_names(named[1:])}, which opens by its own path"
    return Found((named[0],), notes=(note,), others=tuple(named[1:]))


def _in_run(folder: Path) -> Found:
    """The checkpoint of a run directory: best, else final, else the last step."""
    home = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    ranks = {
        child: rank
        for child in _folders(home)
        if (rank := _rank(child.name)) is not None and _holds_weights(child)
    }
    if ranks:
        chosen, *others = sorted(ranks, key=ranks.__getitem__)
        found = _in_folder(chosen)
        assert found is not None, "it holds weights"
        note = (
            f"opened {home.name}/{chosen.name}; also there: {_names(others)}; each opens by its own path",
        )
        return found._replace(notes=found.notes + (note if others else ()), others=tuple(others))
    inside = [child for child in _folders(folder) if _holds_weights(child) or _is_run(child)]
    if inside:
        kind = "run" if all(map(_is_run, inside)) else "checkpoint"
        raise NptVizError(
            f"{folder}: holds {len(inside)} {kind}{'s' * (len(inside) > 1)} ({_names(inside)}), and is none itself; open "
            "one of them"
        )
    raise NptVizError(f"{folder}: {_without_weights(folder)}")


def _without_weights(folder: Path) -> str:
    """What a folder without weights holds, in words."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    if (folder / "adapter_config.json").is_file():
        return "is a LoRA adapter, which is no NPT checkpoint; open the folder that holds the NPT weights"
    kinds = {file.name: kind.words for file in files if (kind := file_kind(file)) is not None}
    listed = "; ".join(f"{name:.40}: {words:.80}" for name, words in list(kinds.items())[:2])
    holds = f"it holds {listed}. It" if listed else "it"
    if not any(folder.iterdir()):
        return "is an empty folder; open the folder that holds the weights"
    return (
        f"no checkpoint in it; {holds} needs {NATIVE_CONFIG}, npt_weights.pt, other weights, or checkpoints/best: open the "
        "folder that holds the weights"
    )


def _holds_weights(folder: Path) -> bool:
    if any((folder / name).is_file() for name in WEIGHTS) or _indexes(folder):
        return True
    return any(_SHARD.fullmatch(file.name) for file in folder.iterdir())


def _is_run(folder: Path) -> bool:
    """Whether a folder holds stages of a run, itself or in checkpoints/."""
    return any(
        _rank(stage.name) is not None and _holds_weights(stage)
        for home in (folder, folder / "checkpoints")
        if home.is_dir()
        for stage in _folders(home)
    )


def _folders(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir()]


def is_stage(name: str) -> bool:
    """Whether a folder of this name is a stage of a run: best, final, checkpoint-best, checkpoint-N."""
    return _rank(name) is not None


def _rank(name: str) -> tuple[int, int] | None:
    """Order in which the stages of a run are preferred."""
    bare = re.sub(r"^checkpoint[-_]", "", name)
    if bare in _STAGES:
        return _STAGES.index(bare), 0
    if step := re.fullmatch(r"(?:checkpoint|step|epoch)[-_](\d+)", name):
        return len(_STAGES), -int(step[1])
    return None


def _indexes(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    return [file for end in INDEX for file in files if file.name.endswith(end)]


def _listed(index: Path) -> Found:
    """The shards that an index lists."""
    names = sorted(set(map(str, weight_map(index).values())))
    for name in names:
        if Path(name).name != name:
            raise NptVizError(f"{index}: names the shard {name!r} outside its folder; that is refused")
        if not (index.parent / name).is_file():
            raise NptVizError(f"{index.parent / name}: this shard is missing; copy the whole folder again")
        _refuse_others(index.parent / name)
    counts = {int(shard["count"]) for name in names if (shard := _SHARD.fullmatch(name))}
    if len(counts) == 1 and (count := counts.pop()) != len(names):
        raise NptVizError(
            f"{index}: lists {len(names)} of the {count} shards that their names tell; copy the index again"
        )
    return Found(tuple(index.parent / name for name in names), index)


def _shards_of(file: Path) -> Found:
    """All shards of the checkpoint that a shard is a part of."""
    shard = _SHARD.fullmatch(file.name)
    assert shard is not None, "the caller asked"
    index = file.with_name(f"{shard['stem']}{shard['suffix']}.index.json")
    if index.is_file():
        return _listed(index)
    count, digits = int(shard["count"]), len(shard["number"])
    names = [
        f"{shard['stem']}-{number:0{digits}}-of-{shard['count']}{shard['suffix']}"
        for number in range(1, count + 1)
    ]
    missing = [name for name in names if not file.with_name(name).is_file()]
    if missing:
        raise NptVizError(
            f"{file}: is shard {int(shard['number'])} of {count}, and {index.name} is not beside it, nor "
            f"{'is ' if len(missing) == 1 else 'are '}{_words(missing)}; opened alone, layers would be missing: copy the "
            "whole folder"
        )
    note = f"opened the {count} shards that the names tell; {index.name}, which would list their tensors, is missing"
    return Found(tuple(file.with_name(name) for name in names), notes=(note,))


def weight_map(index: Path) -> dict[str, str]:
    """Tensor -> shard; raises NptVizError for an index without it."""
    found = json_object(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise NptVizError(f"{index}: has no weight_map; copy the index again")
    return found


def json_object(file: Path) -> dict:
    """The object in a JSON file; raises NptVizError where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NptVizError(f"{file}: is no readable JSON ({error}); copy or correct it") from None
    if not isinstance(content, dict):
        raise NptVizError(f"{file}: holds a {type(content).__name__}, not a JSON object; copy or correct it")
    return content


def _names(paths: Sequence[Path]) -> str:
    return _words([path.name for path in paths])


def _words(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more

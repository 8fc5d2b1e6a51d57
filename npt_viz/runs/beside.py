"""Files beside a published log: the run's config.json, the state of a training of several layers, evaluations."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from npt_viz.runs.exported import SUFFIXES
from npt_viz.runs.findings import FINDINGS
from npt_viz.runs.offline import SUFFIX, parts_before

MOST_BYTES = 2**22
_BELOW_THE_ROOT = re.compile(
    r"logs?|training_logs?|checkpoints?|evaluation|best|final|(checkpoint|step)[-_]?\w*", re.I
)
"""Folders of a run that are not its root."""

_LEVELS = 3
_STATE = "multi_layer_state.pt"
_EVALUATION = re.compile(r"eval_metrics_layer_(\d{1,4})\.json")


class Beside(NamedTuple):
    """What lies beside a log."""

    config: Mapping
    """The training's config.json; empty where there is none."""
    state: Mapping
    """Layers, layer weights and curriculum of multi_layer_state.pt; empty where there is none."""
    evaluations: tuple[tuple[int, Path, list], ...]
    """(layer, file, its rows) of evaluation/eval_metrics_layer_i.json"""
    notes: tuple[str, ...]
    """What is wrong with a file, a sentence each."""


NOTHING = Beside({}, {}, (), ())


def files_of(log: Path) -> list[Path]:
    """All files that a run is read from: the log, and what lies beside it."""
    if log.suffix == SUFFIX:
        return [log, *parts_before(log)]
    if log.suffix.lower() in SUFFIXES:
        return [log]
    root = _root(log)
    config = _config_path(log, root)
    others = [config, _state_path(root), findings if (findings := log.parent / FINDINGS).is_file() else None]
    return [log, *filter(None, others), *(path for _, path in _evaluation_paths(root))]


def beside(log: Path) -> Beside:
    """Read what lies beside a log; nothing raises: a file that cannot be read is a note."""
    root, notes = _root(log), list[str]()
    config_path, state_path = _config_path(log, root), _state_path(root)
    config = _object(config_path, notes, "weights and stages") if config_path else {}
    state = _state(state_path, notes) if state_path else {}
    evaluations = []
    for layer, path in _evaluation_paths(root):
        rows = _json(path, notes, "evaluations")
        if isinstance(rows, list | dict):
            evaluations.append((layer, path, rows if isinstance(rows, list) else [rows]))
        elif rows is not None:
            notes.append(f"{path.name} holds no list of evaluations and is left out.")
    return Beside(config, state, tuple(evaluations), tuple(notes))


def _root(log: Path) -> Path:
    """The run's folder: that of the log, or the one above folders such as logs and checkpoints/final."""
    folder = log.absolute().parent
    for _ in range(_LEVELS):
        if _is_training_config(folder / "config.json") or not _is_below_the_root(folder):
            break
        folder = folder.parent
    return folder


def _is_below_the_root(folder: Path) -> bool:
    """By its own name, or because the folder above holds a config and checkpoints or evaluations."""
    above = folder.parent
    return bool(_BELOW_THE_ROOT.fullmatch(folder.name)) or (
        _is_training_config(above / "config.json")
        and any((above / name).is_dir() for name in ("checkpoints", "evaluation"))
    )


def _config_path(log: Path, root: Path) -> Path | None:
    """In the run's root, else in one of its checkpoints; a broken one in the root counts too."""
    direct = root / "config.json"
    if direct.is_file() and not _is_model_config(direct):
        return direct
    return next((path for path in _in_checkpoints(root, "config.json") if _is_training_config(path)), None)


def _in_checkpoints(root: Path, name: str) -> list[Path]:
    """Files of that name in checkpoints/* and checkpoint-*, newest first."""
    found = [
        path for pattern in (f"checkpoints/*/{name}", f"checkpoint*/{name}") for path in root.glob(pattern)
    ]
    return sorted(
        (path for path in found if path.is_file()), key=lambda path: (-path.stat().st_mtime, str(path))
    )


def _state_path(root: Path) -> Path | None:
    direct = root / _STATE
    return direct if direct.is_file() else next(iter(_in_checkpoints(root, _STATE)), None)


def _evaluation_paths(root: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(root.glob("evaluation/eval_metrics_layer_*.json")):
        if named := _EVALUATION.fullmatch(path.name):
            yield int(named[1]), path


def _is_model_config(path: Path) -> bool:
    """Whether a config.json is that of a Hugging Face model, which says nothing of a training."""
    config = _json(path, [], "")
    return isinstance(config, dict) and bool({"architectures", "model_type"} & config.keys())


def _is_training_config(path: Path) -> bool:
    return path.is_file() and isinstance(_json(path, [], ""), dict) and not _is_model_config(path)


def _object(path: Path, notes: list[str], what: str) -> dict:
    content = _json(path, notes, what)
    if content is None or isinstance(content, dict):
        return content or {}
    notes.append(f"{path.name} holds no object, so its {what} are not known.")
    return {}


def _json(path: Path, notes: list[str], what: str) -> object:
    """The file's content; None, with a note, where it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            notes.append(f"{path.name} is larger than {MOST_BYTES // 2**20} MB and was not read.")
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} could not be read ({type(error).__name__}), so its {what} are not known.")
        return None


def _state(path: Path, notes: list[str]) -> dict:
    """The plain values of a multi_layer_state.pt; nothing in it is executed."""
    import torch

    try:
        if path.stat().st_size > MOST_BYTES:
            notes.append(f"{path.name} is larger than {MOST_BYTES // 2**20} MB and was not read.")
            return {}
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged or hostile pickle raises nearly anything.
    except Exception as error:
        notes.append(
            f"{path.name} could not be read safely ({type(error).__name__}), so its layer weights are not known."
        )
        return {}
    if not isinstance(content, dict):
        notes.append(f"{path.name} holds no dict, so its layer weights are not known.")
        return {}
    return content

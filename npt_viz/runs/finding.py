"""Find the logs of trainings below a folder, without reading any of them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from npt_viz.training.log import FILE

LOGS = (FILE, "training_log.jsonl")
"""What logs are called: ours, and that of the public code."""

_OFFLINE = re.compile(r"run-.+\.wandb")
"""What Weights & Biases calls a run's log, in a folder wandb/offline-run-…"""

MOST = 200
DEPTH = 6


def found_runs(folder: str | Path, *, most: int = MOST) -> list[Path]:
    """The logs below a folder, newest first; at most `most`, found first, and not more than a few folders deep."""
    logs = dict[object, Path]()
    for path in _logs(str(folder), DEPTH):
        # The parts of a run that was resumed have one name, in folders that begin with their date: the last stands for all.
        run = (path.parent.parent, path.name) if _OFFLINE.fullmatch(path.name) else path
        logs.pop(run, None)
        logs[run] = path
        if len(logs) == most:
            break
    return sorted(logs.values(), key=lambda path: (-_modified(path), str(path)))


def _logs(folder: str, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    yield from (Path(entry.path) for entry in entries if _is_log(entry.name) and entry.is_file())
    for entry in entries:
        # Links are not followed: they may lead back up.
        if depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _logs(entry.path, depth - 1)


def _is_log(name: str) -> bool:
    return name in LOGS or bool(_OFFLINE.fullmatch(name))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

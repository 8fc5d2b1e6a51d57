"""Find the logs of trainings below a folder, without reading any of them."""

import os
from collections.abc import Iterator
from pathlib import Path

from npt_viz.training.log import FILE

LOGS = (FILE, "training_log.jsonl")
"""What logs are called: ours, and that of the public code."""

MOST = 200
DEPTH = 6


def found_runs(folder: str | Path, *, most: int = MOST) -> list[Path]:
    """The logs below a folder, newest first; at most `most`, found first, and not more than a few folders deep."""
    logs = []
    for path in _logs(str(folder), DEPTH):
        logs.append(path)
        if len(logs) == most:
            break
    return sorted(logs, key=lambda path: (-_modified(path), str(path)))


def _logs(folder: str, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    yield from (Path(entry.path) for entry in entries if entry.name in LOGS and entry.is_file())
    for entry in entries:
        # Links are not followed: they may lead back up.
        if depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _logs(entry.path, depth - 1)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""Keep the workspace within its bound: the oldest uploads and trainings go first, and what goes is named.

Choices, ledgers and experiments are never removed: they were named or are small.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.workspace.browser import TRAININGS, UPLOADS
from npt_viz.workspace.place import BROWSERS, Workspace
from npt_viz.workspace.trainings import is_running, record_of


class Item(NamedTuple):
    """Upload or training that may go."""

    path: Path
    label: str
    """The name that a user knows: of the uploaded file, or what was trained."""
    used: float
    """Time of its newest file, in seconds since 1970."""
    n_bytes: int


def make_room(workspace: Workspace, *, needs_bytes: int = 0, spare: Iterable[Path] = ()) -> list[Item]:
    """Remove the oldest uploads and trainings until `needs_bytes` more fit in the bound; returns what went.

    spare: files and folders that are in use: an item that holds or is one of them stays. Trainings that run stay.
    Raises NptVizError where it cannot be enough; nothing is removed then.
    """
    spared = [path.absolute() for path in spare]
    too_much = _bytes_of(workspace.root) + needs_bytes - workspace.limit
    going: list[Item] = []
    for item in sorted(_items(workspace), key=lambda item: item.used):
        if too_much <= 0:
            break
        in_use = any(path == item.path or item.path in path.parents for path in spared)
        if not in_use and not is_running(item.path):
            going.append(item)
            too_much -= item.n_bytes
    if too_much > 0:
        raise NptVizError(
            f"{workspace.root}: the workspace may take {gigabytes(workspace.limit)}, and {gigabytes(needs_bytes)} more do "
            "not fit beside what is in use; delete experiments there, or start npt_viz with a larger --workspace-gb"
        )
    for item in going:
        shutil.rmtree(item.path, ignore_errors=True)
    return going


def _items(workspace: Workspace) -> Iterable[Item]:
    for kind in (UPLOADS, TRAININGS):
        for path in workspace.root.glob(f"{BROWSERS}/*/{kind}/*"):
            if not path.name.startswith("."):
                yield Item(path, _label(path), _used(path), _bytes_of(path))


def _label(path: Path) -> str:
    if (record := record_of(path)) is not None:
        return record.label
    return next((file.name for file in sorted(path.glob("*")) if file.is_file()), path.name)


def _used(path: Path) -> float:
    return max((status.st_mtime for status in map(_status, path.rglob("*")) if status), default=0.0)


def _bytes_of(folder: Path) -> int:
    return sum(status.st_size for status in map(_status, folder.rglob("*")) if status)


def _status(path: Path):
    """Status of a file; None of a folder and of what another process has just removed."""
    try:
        return path.stat() if path.is_file() else None
    except OSError:
        return None

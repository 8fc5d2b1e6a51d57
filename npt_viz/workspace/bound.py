"""Keep the workspace within its bound: numbers of the history go first, then the oldest uploads and trainings, and what
goes is named.

Numbers of the history can be computed again; its entries stay without them. Choices, ledgers and experiments are never
removed: they were named or are small.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.workspace.browser import HISTORY, TRAININGS, UPLOADS
from npt_viz.workspace.history_file import free_numbers, kept_numbers
from npt_viz.workspace.place import BROWSERS, Workspace
from npt_viz.workspace.trainings import is_running, record_of

HISTORY_SHARE = 0.1
"""Of the bound, what the history of one browser may take."""

NUMBERS = "numbers of the history"
"""Label of what goes of a history: another browser's titles are not to be read here."""


class Item(NamedTuple):
    """Upload, training, or numbers of a history's entry, that may go."""

    path: Path
    label: str
    """The name that a user knows: of the uploaded file, or what was trained; NUMBERS."""
    used: float
    """Time of its newest file, or of the entry, in seconds since 1970."""
    n_bytes: int
    key: str = ""
    """Of the entry, where it is numbers."""


def make_room(workspace: Workspace, *, needs_bytes: int = 0, spare: Iterable[Path] = ()) -> list[Item]:
    """Remove numbers of histories, then the oldest uploads and trainings, until `needs_bytes` more fit; returns what went.

    spare: files and folders that are in use: an item that holds or is one of them stays. Trainings that run stay.
    Raises NptVizError where it cannot be enough; nothing is removed then.
    """
    spared = [path.absolute() for path in spare]
    too_much = _bytes_of(workspace.root) + needs_bytes - workspace.limit
    going: list[Item] = []
    for item in sorted(_items(workspace), key=lambda item: (not item.key, item.used)):
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
    numbers = defaultdict(list)
    for item in going:
        if item.key:
            numbers[item.path].append(item.key)
        else:
            shutil.rmtree(item.path, ignore_errors=True)
    for file, keys in numbers.items():
        free_numbers(file, keys)
    return going


def room_for_history(workspace: Workspace, file: Path) -> float:
    """Bytes that a browser's history may take: its share, or what the rest of the workspace leaves."""
    others = _bytes_of(workspace.root) - _bytes_of(file)
    return max(0.0, min(HISTORY_SHARE * workspace.limit, workspace.limit - others))


def _items(workspace: Workspace) -> Iterable[Item]:
    for file in workspace.root.glob(f"{BROWSERS}/*/{HISTORY}"):
        for key, asked, n_bytes in kept_numbers(file):
            yield Item(file, NUMBERS, asked, n_bytes, key)
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


def _bytes_of(path: Path) -> int:
    """Of a file, or of all files below a folder."""
    return sum(status.st_size for status in map(_status, (path, *path.rglob("*"))) if status)


def _status(path: Path):
    """Status of a file; None of a folder and of what another process has just removed."""
    try:
        return path.stat() if path.is_file() else None
    except OSError:
        return None

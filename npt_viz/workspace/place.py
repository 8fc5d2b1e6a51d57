"""Place of the workspace on disk: which folder it is, how large it may grow, and what is said where it cannot be used.

    workspace.json                      format and version
    browsers/<hash of the browser's id>/
        kept.json                       choices, prompts, the list of transplants
        history.sqlite                  what was asked, what it said, and its numbers
        ledgers/<hash>.npt_edits.json   permanent updates, as recipes
        uploads/<hash>/<name>           checkpoints and texts that were uploaded
        trainings/<name>/               state, log and checkpoints of a training
        runs/<name>/                    experiments

Nothing here is executed when it is read: JSON, safetensors, and tensors that are loaded as weights only. Several
processes may share a workspace: each file is written whole, the last writer wins, and a training has a folder of its own.
"""

import atexit
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.places import typed_path

FORMAT = "npt_viz workspace"
VERSION = 1
FILE = "workspace.json"
BROWSERS = "browsers"

FOLDER_VARIABLE = "NPT_VIZ_WORKSPACE"
"""Environment variable that names the folder."""

LIMIT_VARIABLE = "NPT_VIZ_WORKSPACE_GB"
"""Environment variable with the most gigabytes that it may take."""

LIMIT_GB = 5.0

IDLE_VARIABLE = "NPT_VIZ_IDLE_HOURS"
"""Environment variable with the hours that work goes on in a browser's name without any tab of it."""

IDLE_HOURS = 12.0

BEING_MADE = 1.0
"""Seconds that a workspace may take to get its mark."""


class Workspace:
    """A folder that can be used, or a temporary one with a sentence that says why the wanted one cannot."""

    def __init__(self, root: Path, *, limit: float = LIMIT_GB * 1e9, problem: str | None = None) -> None:
        self.root = root
        self.limit = limit
        """Bytes."""
        self.problem = problem

    @property
    def is_temporary(self) -> bool:
        """Whether it goes with this process."""
        return self.problem is not None

    def close(self) -> None:
        """Delete the folder of a temporary workspace with all that is in it; one that lasts is left as it is. Never raises."""
        if self.is_temporary:
            shutil.rmtree(self.root, ignore_errors=True)


def opened(folder: str | Path, *, limit: float = LIMIT_GB * 1e9) -> Workspace:
    """Open a workspace, made where it is missing; a temporary one that says why where it cannot be used.

    A workspace of a newer npt_viz, and a folder that is something else, stay as they are.
    """
    try:
        root = typed_path(folder).absolute()
        _prepare(root)
    except NptVizError as error:
        return _temporary(str(error), limit)
    except OSError as error:
        return _temporary(f"{folder}: cannot be used as a workspace ({error.strerror or error})", limit)
    return Workspace(root, limit=limit)


def of_environment() -> Workspace:
    """The workspace that the environment names, or that of the user's data folder."""
    limit = 1e9 * _number(LIMIT_VARIABLE, LIMIT_GB)
    return opened(os.environ.get(FOLDER_VARIABLE) or default_folder(), limit=limit)


def idle_hours() -> float:
    """Hours that work goes on without a tab."""
    return _number(IDLE_VARIABLE, IDLE_HOURS)


def _number(variable: str, otherwise: float) -> float:
    try:
        return float(os.environ.get(variable, otherwise))
    except ValueError:
        return otherwise


def default_folder() -> Path:
    """Below XDG_DATA_HOME where that is an absolute path, else below ~/.local/share."""
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return (data if data.is_absolute() else Path("~/.local/share").expanduser()) / "npt_viz"


def _prepare(root: Path) -> None:
    """Make the folder and its mark, or check the mark; raises NptVizError where it is not this version's to use."""
    if not root.exists():
        # Prompts can be private, and other users of the machine need none of this.
        root.mkdir(parents=True, mode=0o700)
    mark = root / FILE
    until = time.monotonic() + BEING_MADE
    # One look decides each time: another session, or another server, may be making it this moment.
    while not mark.exists():
        if not any(root.iterdir()):
            write_whole(mark, json.dumps({"format": FORMAT, "format_version": VERSION}) + "\n")
        elif time.monotonic() > until:
            raise NptVizError(
                f"{root}: is no workspace of npt_viz and is not empty, so nothing is written there; choose another folder"
            )
        else:
            time.sleep(0.02)
    _check(mark)
    with tempfile.TemporaryFile(dir=root):  # It can be written.
        pass


def _check(mark: Path) -> None:
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise NptVizError(
            f"{mark}: is not the mark of a workspace of npt_viz, so nothing is written there; choose another folder"
        )
    version = content.get("format_version")
    if not isinstance(version, int) or version > VERSION:
        raise NptVizError(
            f"{mark}: format_version is {version!r:.40} and this npt_viz reads {VERSION}, so nothing there was read or "
            "changed; update npt_viz or choose another folder"
        )


def _temporary(reason: str, limit: float) -> Workspace:
    root = Path(tempfile.mkdtemp(prefix="npt_viz-"))
    with suppress(NptVizError):
        write_whole(root / FILE, json.dumps({"format": FORMAT, "format_version": VERSION}) + "\n")
    made = Workspace(
        root, limit=limit, problem=f"{reason}. Until then what you do is kept only while this server runs."
    )
    atexit.register(made.close)
    return made

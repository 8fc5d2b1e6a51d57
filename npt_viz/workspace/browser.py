"""Folder of one browser in the workspace, and the id by which the browser is known.

The id is a secret of the browser: it is never a name on disk, in a log or on a page. Its hash names the folder.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

from npt_viz.files import write_whole
from npt_viz.workspace.place import BROWSERS, Workspace

KEPT_FILE = "kept.json"
UPLOADS, TRAININGS, LEDGERS, RUNS = "uploads", "trainings", "ledgers", "runs"
HISTORY = "history.sqlite"

_ID = re.compile("[0-9a-f]{32}")


def new_id() -> str:
    """Id of a browser that has none: 128 random bits, in hex."""
    return secrets.token_hex(16)


def is_id(text: object) -> TypeGuard[str]:
    """Whether a text has the form of an id; whatever else a browser sends names nothing."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def hashed(text: str) -> str:
    """Name on disk for a text of any content."""
    return hashlib.sha256(text.encode()).hexdigest()


class BrowserFolder:
    """What one browser keeps on disk; nothing is made before something is written."""

    def __init__(self, workspace: Workspace, browser: str) -> None:
        """browser: an id. Raises ValueError for anything else."""
        if not is_id(browser):
            raise ValueError("that is no id of a browser")
        self.workspace = workspace
        self.path = workspace.root / BROWSERS / hashed(browser)

    @property
    def uploads(self) -> Path:
        return self.path / UPLOADS

    @property
    def trainings(self) -> Path:
        return self.path / TRAININGS

    @property
    def ledgers(self) -> Path:
        return self.path / LEDGERS

    @property
    def runs(self) -> Path:
        return self.path / RUNS

    @property
    def history(self) -> Path:
        return self.path / HISTORY

    def kept(self) -> tuple[dict, str | None]:
        """What kept.json holds, and a sentence where it cannot be read: it is then set aside, and nothing is held."""
        file = self.path / KEPT_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, None
        except OSError as error:
            return {}, f"what this browser kept cannot be read ({error.strerror or error})"
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            return content, None
        with suppress(OSError):
            file.replace(file.with_suffix(".damaged"))
        return {}, "what this browser kept is damaged and was set aside; the choices begin at their defaults"

    def mark(self) -> tuple[int, int] | None:
        """Time and size of kept.json, by which a change by another process shows; None where there is none."""
        try:
            status = (self.path / KEPT_FILE).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def write(self, kept: Mapping | str) -> None:
        """Write kept.json, as values or as their JSON. Raises NptVizError where it cannot be written."""
        text = kept if isinstance(kept, str) else json.dumps(kept)
        write_whole(self.path / KEPT_FILE, text, parents=True)

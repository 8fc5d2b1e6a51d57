"""Places: paths as people type them, and where the files beside the package lie (app.py, pages/, demo checkpoints)."""

import errno
import os
import re
import stat
from pathlib import Path

from npt_viz.errors import NptVizError

_PACKAGE = Path(__file__).resolve().parent
_IN_A_WHEEL = _PACKAGE / "site"

ROOT = _IN_A_WHEEL if (_IN_A_WHEEL / "app.py").exists() else _PACKAGE.parent
"""The repository; in an installed package the folder into which the wheel puts these files."""

OPENED_FIRST = {"model": "NPT_VIZ_MODEL", "checkpoint": "NPT_VIZ_CHECKPOINT"}
"""What a session of the app opens -> the environment variable by which `npt-viz app` names it."""


SHOWN = 120
"""Characters of a path that a message shows."""


def typed_path(path: str | Path) -> Path:
    """The path that a person typed: `~` expanded, blanks and quotes around it taken off where it means nothing with them.

    Raises NptVizError where no path can be meant: an unknown user, a name that is too long, a NUL character, a folder
    that may not be read.
    """
    text = os.fspath(path)
    bare = _bare(text)
    given = _checked(text) if bare == text else _first_there(text, bare)
    if given is None:
        raise NptVizError("the path is empty; give the path of a file or folder")
    return given


def shown(path: str | Path) -> str:
    """A path for a message: a long one by its start and its end."""
    text = str(path)
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN // 2]}…{text[-SHOWN // 4 :]} ({len(text):,} characters)"


def absent(path: Path) -> str:
    """What is wrong with a path at which nothing is, as a clause that follows the path."""
    if path.is_symlink():
        return f"is a link to {shown(os.readlink(path))}, which is not there"
    return "no such file or folder"


def refuse_special(path: Path) -> None:
    """Raise NptVizError for what is neither a file nor a folder: to read a device or a pipe may never end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    kinds = {
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a disk",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    for is_kind, words in kinds.items():
        if is_kind(mode):
            raise NptVizError(
                f"{shown(path)}: is {words}, neither a file nor a folder; save in a file what it would give, and give that"
            )


def _bare(text: str) -> str:
    bare = text.strip()
    while len(bare) > 1 and (bare[0], bare[-1]) in _QUOTES:
        bare = bare[1:-1].strip()
    return bare


_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

_QUOTES = {('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`")}


def _first_there(text: str, bare: str) -> Path | None:
    """The literal path where it exists, which may have such a name, else the bare one."""
    literal = Path(text)
    try:
        if text and os.path.lexists(literal):
            return literal
    except (OSError, ValueError):
        pass
    return _checked(bare) if bare else None


def _checked(text: str) -> Path:
    if (address := _ADDRESS.match(text)) is not None:
        raise NptVizError(
            f"{shown(text)}: is an address, and npt_viz reads what is on this machine; "
            + (
                "give the path without file://"
                if address[1] == "file"
                else "download it and give the path of the copy"
            )
        )
    if "\0" in text:
        raise NptVizError(f"{shown(text)!r} has a NUL character in it, which no path has; remove it")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        user = Path(text).parts[0]
        raise NptVizError(
            f"{shown(text)}: this machine knows no home folder of {user.removeprefix('~') or 'this user'}; give the path "
            "from / on"
        ) from None
    try:
        path.lstat()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise NptVizError(f"{shown(text)}: {_reason(path, error)}") from None
    except ValueError:
        raise NptVizError(f"{shown(text)!r} is no path; remove the characters that are no text") from None
    return path


def _reason(path: Path, error: OSError) -> str:
    if error.errno != errno.ENAMETOOLONG:
        return f"cannot be reached ({error.strerror}); check the path and its permissions"
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)))
    if len(os.fsencode(longest)) > MOST_NAME_BYTES:
        return (
            f"a name in it has {len(longest):,} characters and a file name may have {MOST_NAME_BYTES} bytes; "
            "choose a shorter one"
        )
    return f"the path has {len(str(path)):,} characters, more than this machine allows; choose a shorter one"


MOST_NAME_BYTES = 255
"""Of one file or folder name, on every common file system."""


def located(path: str | Path) -> Path:
    """The path itself, from the current folder; `checkpoints/<demo>` also where only ROOT has it."""
    given = typed_path(path)
    beside = ROOT / given
    return beside if not given.exists() and beside.exists() else given

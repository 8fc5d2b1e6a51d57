"""Files and folders that are written whole or not at all, whatever ends the process that writes them."""

import hashlib
import math
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from npt_viz.errors import NptVizError
from npt_viz.places import MOST_NAME_BYTES, typed_path

ADVICE = "check the space and the permissions, or choose another place"


@contextmanager
def whole_file(path: str | Path, *, parents: bool = False, advice: str = ADVICE) -> Iterator[Path]:
    """Temporary file beside `path` to write into; it replaces `path` when the block ends, and is removed on an error.

    A killed process leaves the temporary file (hidden, *.partial) and never a part of `path`; the next one that writes
    `path` removes it. A device or a pipe, such as /dev/stdout, is written directly.
    parents: make the folders above.
    advice: what the error tells the user to do.
    Raises NptVizError where the file cannot be written.
    """
    target = typed_path(path)
    with _explained(target, advice):
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        # A link stays a link, to the new content.
        target = target.resolve()
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(target)
        partial = _partial(target)
        try:
            partial.touch()
            # What the umask allows a new file, or what the file that is replaced has.
            mode = (target if target.is_file() else partial).stat().st_mode & 0o777
            partial.unlink()
            yield partial
            partial.chmod(mode)
            _sync(partial)
            os.replace(partial, target)
            _sync(target.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes | memoryview, *, parents: bool = False) -> None:
    """Write a file whole or not at all: text as UTF-8, its line ends as they are.

    Raises NptVizError where it cannot be written; what was there before is then unchanged.
    """
    with whole_file(path, parents=parents) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(
    folder: str | Path, *, needs_bytes: int = 0, overwrite: bool = False, advice: str = ADVICE
) -> Iterator[Path]:
    """Temporary folder beside `folder` to write into; it takes the name when the block ends, and is removed on an error.

    A killed process leaves the temporary folder (hidden, *.partial) and never a part of `folder`; the next one that
    writes `folder` removes it.
    needs_bytes: refuse before anything is written where the disk has less.
    overwrite: replace an earlier folder; what it held is gone unless the block copies it.
    advice: what the error tells the user to do.
    Raises NptVizError where the folder exists and is not to be overwritten, or cannot be written.
    """
    folder = typed_path(folder)
    with _explained(folder, advice):
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        replaces = folder.exists()
        if replaces and not overwrite:
            raise NptVizError(f"{folder}: exists already; choose another name")
        free = shutil.disk_usage(folder.parent).free
        if free < needs_bytes:
            raise NptVizError(
                f"{folder}: needs {gigabytes(needs_bytes)} and its disk has {gigabytes(free)} free; "
                "make room or choose another disk"
            )
        partial = _partial(folder)
        try:
            partial.mkdir()
            yield partial
            for entry in partial.rglob("*"):
                if entry.is_file():
                    # safetensors makes its files private; a new folder shows what the umask allows.
                    entry.chmod(partial.stat().st_mode & 0o666)
                _sync(entry)
            _sync(partial)
            _take_name(partial, folder, replaces)
            _sync(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def restore_overwritten(path: str | Path) -> None:
    """Give an earlier folder its name back where the process that overwrote it was killed between its two renames."""
    path = typed_path(path)
    if not path.exists():
        # RuntimeError: a link that leads to itself.
        with suppress(OSError, RuntimeError):
            _clear_abandoned(path.resolve())


def gigabytes(n_bytes: float) -> str:
    """Number of bytes in words: 1.3 GB."""
    return f"{n_bytes / 1e9:.1f} GB"


@contextmanager
def _explained(path: Path, advice: str) -> Iterator[None]:
    """Inside the block a file that cannot be written is one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        named = getattr(error, "filename", None)
        if named is not None and not _belongs(Path(named).absolute(), path.resolve()):
            raise  # Of another file that the block works with.
        reason = getattr(error, "strerror", None) or error
        left = "what was there before is unchanged" if os.path.lexists(path) else "nothing is left there"
        raise NptVizError(f"{path}: cannot be written ({reason}); {left}: {advice}") from None


def _belongs(named: Path, path: Path) -> bool:
    """Whether a path is `path`, a folder above it, or in a temporary sibling of it."""
    if named == path or named in path.parents:
        return True
    beside = named.is_relative_to(path.parent) and named.relative_to(path.parent).parts[:1]
    return bool(beside) and beside[0].startswith(f".{_stem(path)}.")


def _partial(path: Path) -> Path:
    """Hidden name beside `path` that says which process writes there."""
    return path.with_name(f"{_prefix(path)}{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")


def _prefix(path: Path) -> str:
    return f".{_stem(path)}.{socket.gethostname()}-"


def _stem(path: Path) -> str:
    """The name, or the start of one that leaves no room for what a temporary name adds, with its hash."""
    name = os.fsencode(path.name)
    if len(name) <= MOST_NAME_BYTES - _ADDED:
        return path.name
    start = name[: MOST_NAME_BYTES - _ADDED - 9].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(name).hexdigest()[:8]}"


_ADDED = 120
"""Bytes for the machine, the process and a random part of a temporary name."""


def _take_name(partial: Path, folder: Path, replaces: bool) -> None:
    """Rename `partial` to `folder`; an error gives the earlier folder its name back."""
    if not replaces:
        # Where the name was taken since it was checked, rename replaces only an empty folder.
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear_abandoned(path: Path) -> None:
    """Remove what processes of this machine that no longer run have left behind."""
    prefix = _prefix(path)
    for entry in list(path.parent.iterdir()) if path.parent.is_dir() else ():
        process, _, _ = entry.name.removeprefix(prefix).partition("-")
        if not entry.name.startswith(prefix) or not process.isdigit() or _is_running(int(process)):
            continue
        if entry.suffix == ".old" and not path.exists():
            # Killed between the two renames of an overwrite: the earlier folder is the only whole one.
            entry.rename(path)
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk: a rename may survive a power cut that the bytes do not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_json(value) -> Any:
    """A value made of what JSON has: dicts with text keys, lists, finite numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)

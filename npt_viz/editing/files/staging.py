"""Folders that appear whole or not at all, whatever ends the process that writes them."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from npt_viz.errors import NptVizError
from npt_viz.model.memory import gigabytes


@contextmanager
def whole_folder(folder: str | Path, *, needs_bytes: int = 0) -> Iterator[Path]:
    """A hidden sibling to write into; it takes the folder's name when the block ends, and vanishes when it fails.

    A process that is killed leaves the sibling behind, never the folder; the next export to the same name clears it.
    needs_bytes: refuse before anything is written where the disk has less.
    Raises NptVizError where the folder exists or cannot be written.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() or folder.is_symlink():
        raise NptVizError(f"{folder} exists already; choose a name that does not")
    partial = folder.with_name(f".{folder.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        free = shutil.disk_usage(folder.parent).free
        if free < needs_bytes:
            raise NptVizError(
                f"{folder} needs {gigabytes(needs_bytes)} and its disk has {gigabytes(free)} free; "
                "make room or choose another disk"
            )
        partial.mkdir()
        yield partial
        _reach_disk(partial)
        # Between the check above and here the name may have been taken: rename replaces only an empty folder.
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NptVizError(
            f"{folder} cannot be written ({reason}); nothing is left under that name: check the space and the permissions"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clear_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that no longer run have left behind."""
    prefix = f".{folder.name}.{socket.gethostname()}-"
    for entry in folder.parent.iterdir():
        number = entry.name.removeprefix(prefix).removesuffix(".partial")
        if entry.name == f"{prefix}{number}.partial" and number.isdigit() and not _is_running(int(number)):
            shutil.rmtree(entry, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _reach_disk(folder: Path) -> None:
    """A rename may survive a power cut that the bytes do not."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

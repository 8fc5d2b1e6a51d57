"""Trainings in the workspace: what is known of one without opening its state, and whether its process still runs."""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole

RECORD = "training.json"

SILENCE = 180.0
"""Seconds after which a training of another machine that has not been saved counts as ended."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training as it was saved last."""

    label: str
    """What is trained, in words."""
    base: tuple[str, ...]
    """Name, precision and device of the base model."""
    done: int
    total: int
    state: str
    """As its job says: running, paused, finished, stopped, failed."""
    saved: float
    """Seconds since 1970."""
    process: str
    """Which process trains it."""


def write_record(folder: Path, **values: Any) -> None:
    """Write the record of a training of this process. Raises NptVizError where it cannot be written."""
    record = Record(**values, saved=time.time(), process=this_process())
    write_whole(folder / RECORD, json.dumps(asdict(record)) + "\n", parents=True)


def record_of(folder: Path) -> Record | None:
    """Record of the training in a folder; None where there is none or it is damaged."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return _checked(content)
    except (OSError, ValueError, RecursionError, NptVizError, KeyError, TypeError):
        return None


def _checked(content: Mapping) -> Record:
    kinds = {
        "label": str,
        "base": list,
        "done": int,
        "total": int,
        "state": str,
        "saved": (int, float),
        "process": str,
    }
    values: dict[str, Any] = {field.name: content[field.name] for field in fields(Record)}
    for name, value in values.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise TypeError(name)
    if not all(isinstance(part, str) for part in values["base"]):
        raise TypeError("base")
    values["base"] = tuple(values["base"])
    return Record(**values)


def is_running(folder: Path) -> bool:
    """Whether a process trains what is in a folder now."""
    record = record_of(folder)
    return record is not None and record.state in ("running", "paused") and _is_alive(record)


def this_process() -> str:
    """Text that no other process has: machine, number and beginning."""
    return f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}"


def _is_alive(record: Record) -> bool:
    host, _, process = record.process.partition(" ")
    if host != socket.gethostname():
        return time.time() - record.saved < SILENCE
    number, _, began = process.partition(" ")
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    return _began(int(number)) == began


def _began(process: int) -> str:
    """When a process began, in the kernel's ticks: numbers are given anew, this is not. Empty where nothing tells."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return status.rpartition(")")[2].split()[19]

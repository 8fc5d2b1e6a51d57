"""Log of a training: one JSON line with its settings, then one for every layer and step."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from npt_viz.errors import NptVizError
from npt_viz.files import whole_file
from npt_viz.results.training import Step

FORMAT = "npt_viz steps, version 1"
FILE = "steps.jsonl"

RUNS = Path(os.environ.get("NPT_VIZ_RUNS", "runs"))
"""Where trainings and experiments are kept: below the folder in which npt_viz was started, or as NPT_VIZ_RUNS says."""


class StepLog:
    """Appends steps to a file as they come, so that what a stopped training learned can be read."""

    def __init__(self, path: str | Path, *, name: str, settings: Mapping) -> None:
        """settings: how it is trained, as plain JSON values (Training.described)."""
        self.path = Path(path)
        self._file: IO[str] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
            self._file.write(first_line(name, settings))
        except OSError as error:
            raise self._unwritable(error) from None

    def add(self, step: Step) -> None:
        try:
            for row in step.rows():
                self._file.write(row_line(row))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _unwritable(self, error: OSError) -> NptVizError:
        return NptVizError(
            f"{self.path}: cannot be written ({error.strerror or error}); the steps before it are in the file: check "
            "the space and the permissions"
        )


def save_log(path: str | Path, rows: Iterable[Mapping], *, name: str, settings: Mapping) -> Path:
    """Write the record of a training whole or not at all; rows as Step.rows gives them.

    Raises NptVizError where it cannot be written; an earlier file of that name is then as it was.
    """
    with whole_file(path, parents=True) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(first_line(name, settings))
        for fields in rows:
            file.write(row_line(fields))
    return Path(path)


def logged_rows(path: str | Path) -> tuple[list[dict], int]:
    """(the rows of Step.rows that a StepLog wrote, lines that could not be read).

    A last line that is not finished yet is neither.
    """
    rows, skipped = [], 0
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        next(file, None)
        for line in file:
            if not line.endswith("\n"):
                break
            row = _row(line)
            if row is None:
                skipped += 1
            else:
                rows.append(row)
    return rows, skipped


def _row(line: str) -> dict | None:
    try:
        row = json.loads(line)
        return {key: math.nan if value is None else float(value) for key, value in row.items()} | {
            key: int(row[key]) for key in ("step", "layer")
        }
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def steps_logged(path: str | Path) -> int:
    """The number of the last step in a log, read from its end; 0 where there is none."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1]).get("step", 0))
    except (OSError, ValueError, IndexError):
        return 0


def first_line(name: str, settings: Mapping) -> str:
    """First line of a log. settings: how it is trained, as plain JSON values."""
    return row_line({"format": FORMAT, "name": name, "settings": settings})


def row_line(fields: Mapping) -> str:
    """A line of a log, whole."""
    return json.dumps({key: _plain(value) for key, value in fields.items()}, ensure_ascii=False) + "\n"


def _plain(value):
    """The value, or None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

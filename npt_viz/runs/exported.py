"""CSV exports of W&B, MLflow, trackio, TensorBoard and of npt_viz itself: one run or several, as rows of a log.

Rows of a table stand in any order: they are sorted by step, and of a step that stands twice the last holds.
"""

import csv
import io
import math
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.runs.lines import LONGEST_LINE, LONGEST_NAME, Entries
from npt_viz.runs.published import STAGES
from npt_viz.runs.steps import STEPS
from npt_viz.runs.table import STEPS_BELOW, measurement, step_of

SUFFIXES = (".csv", ".tsv")

MOST_COLUMNS = 5000
MOST_RUNS = 200
MOST_CELLS = 20_000_000
"""Numbers of a file that are kept: 16 bytes each."""

_RUN_NAMES = ("run_name", "run name", "run", "group", "run_id", "run id")
_RUN_IDS = ("run_id", "run id")
_KEYS = ("key", "metric", "metric_name", "metric name", "tag")
_TIMES = ("_timestamp", "wall time", "timestamp")
_NOT_MEASURED = {"series_key", "data_type", "run_id", "run id", "_runtime"}
_BETWEEN = " - "
"""Between run and metric in the columns of W&B's panels."""

_BOUNDS = ("__MIN", "__MAX")
"""Columns of W&B's panels: the range of what was averaged for the picture."""

_SINCE_START = ("relative time (process)", "relative time (wall)")
"""Axes of W&B's panels in seconds."""

_MILLISECONDS = 1e11
"""Above this a time since 1970 is in milliseconds."""


class ExportedRows(Entries):
    """The rows of a CSV file, with the run they belong to where there are several."""

    noun = "row"
    is_table = True

    def __init__(self, file: IO[bytes], origin: str) -> None:
        super().__init__()
        self._file, self._origin = file, origin
        self._runs: dict[str | None, _Cells] = {}
        self._ids: dict[str, str] = {}
        """Name of a run -> id of the first that is called so."""
        self._n_cells = 0
        self._text: list[str] = []
        """(Where, what) of cells that are no number."""
        self._n_text = 0
        self._is_utf8 = True
        self._has_commas = False
        """Whether decimals are written 0,5, as where ; separates the cells."""

    def __iter__(self) -> Iterator[tuple[str | None, dict]]:
        text = io.TextIOWrapper(self._file, _encoding(self._file), errors="replace", newline="")
        try:
            self._fill(text)
        finally:
            # The file is its opener's to close.
            text.detach()
        self._check()
        only = len(self._runs) == 1
        for name, cells in self._runs.items():
            self.name = name if only and name else ""
            for row in cells.rows():
                yield None if only else name, row
        self._say()

    def _fill(self, text: io.TextIOWrapper) -> None:
        """Keep the numbers of every row."""
        lines = self._lines(text)
        first = next((line for line in lines if line.strip()), "")
        if not first:
            raise NptVizError(f"{self._origin} is an empty file; export the run again")
        separator = max(",;\t", key=first.count)
        self._has_commas = separator == ";"
        reader = csv.reader(chain([first], lines), delimiter=separator)
        header = self._header(reader)
        columns = _columns(header, self._origin)
        self.is_own = {"layer", "total"} <= set(header)
        for row in self._rows(reader):
            if len(row) > len(header):
                self.skip("more fields than the header")
            else:
                self._take(columns, row)

    def _header(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            header = [name.strip() for name in next(reader)]
        except csv.Error:
            raise NptVizError(
                f"{self._origin}: its header has a name of more than {csv.field_size_limit():,} letters; "
                "export the run again as CSV"
            ) from None
        if len(header) > MOST_COLUMNS:
            raise NptVizError(
                f"{self._origin}: has {len(header):,} columns; at most {MOST_COLUMNS:,} are read: export fewer metrics"
            )
        return header

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        while line := text.readline(LONGEST_LINE):
            self._is_utf8 &= "\ufffd" not in line
            yield line

    def _rows(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        self.number = 1
        while True:
            self.number += 1
            try:
                row = next(reader, None)
            except csv.Error:
                self.skip("a field of more than 128 kB")
                continue
            if row is None:
                self.number -= 1
                return
            if any(cell.strip() for cell in row):
                yield row

    def _take(self, columns: "_Columns", row: list[str]) -> None:
        row += [""] * (columns.n - len(row))
        named = self._named(columns, row)
        layer = row[columns.layer].strip() if self.is_own and columns.layer is not None else ""
        step = None if columns.step is None else self._step(row[columns.step])
        if step is None and not columns.step_of_run:
            last = [cells.last for name, cells in self._runs.items() if name == named]
            step = last[0] if last and columns.may_lack_steps else None
            if step is None:
                self.skip("no step in it")
                return
        taken = False
        for run, column, text in columns.cells(row, named):
            if columns.step_of_run:
                step = self._step(row[columns.step_of_run[run]], is_mean=True)
            if step is None:
                continue
            cells = self._cells_of(run)
            cells.last = step
            if column in STAGES:
                cells.stages[step] = int(text) if text.isdecimal() and len(text) < 10 else text
                taken = True
            elif column == "_at":
                if (when := _time(text)) is not None:
                    cells.put("_at", layer, step, when)
            elif (value := self._measured(text)) is None:
                self._n_text += 1
                if not self._text:
                    self._text.append(f"“{text[:40]}” in row {self.number:,}, column {column[:60]}")
            else:
                cells.put(column, layer, step, value)
                self._n_cells += 1
                taken = True
        if not taken:
            self.skip("no numbers in it")
        if self._n_cells > MOST_CELLS:
            raise NptVizError(
                f"{self._origin}: holds more than {MOST_CELLS:,} numbers; export fewer runs or metrics at a time"
            )

    def _named(self, columns: "_Columns", row: list[str]) -> str | None:
        """The run of a row; of several that are called the same, all but the first with their id."""
        name = columns.run_of(row)
        number = row[columns.id].strip() if columns.id is not None else ""
        if not name or not number or self._ids.setdefault(name, number) == number:
            return name
        return f"{name} ({number})"[:LONGEST_NAME]

    def _step(self, text: str, *, is_mean: bool = False) -> int | None:
        """is_mean: W&B's panels draw means of neighbouring steps."""
        value = self._number(text)
        if value is None or not math.isfinite(value):
            return None
        return step_of(round(value) if is_mean else value)

    def _cells_of(self, run: str | None) -> "_Cells":
        if run not in self._runs:
            if len(self._runs) == MOST_RUNS:
                raise NptVizError(
                    f"{self._origin}: holds more than {MOST_RUNS} runs; export fewer at a time, or name the column "
                    "that is no run differently"
                )
            self._runs[run] = _Cells()
        return self._runs[run]

    def _measured(self, text: str) -> float | None:
        if (value := self._number(text)) is not None:
            return value
        return measurement(None if text.lower() in ("null", "none") else text)

    def _number(self, text: str) -> float | None:
        text = text.strip()
        if self._has_commas and text.count(",") == 1:
            text = text.replace(",", ".")
        # Python would also take 1_000.
        if "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return None

    def _check(self) -> None:
        if not any(map(len, self._runs.values())):
            raise NptVizError(
                f"{self._origin}: none of its {max(0, self.number - 1):,} rows has a step and a number; export the "
                "metrics of a run, with their step, as CSV"
            )

    def _say(self) -> None:
        """What a reader must know of the table."""
        if self._n_text:
            cells = "1 cell is" if self._n_text == 1 else f"{self._n_text:,} cells are"
            self.notes.append(f"{cells} text and no number, and left out ({self._text[0]}).")
        if twice := sum(cells.n_replaced for cells in self._runs.values()):
            self.notes.append(
                f"{twice:,} values stand for a step and column that stands there again; the last is shown."
            )
        if not self._is_utf8:
            self.notes.append("Some of its bytes are no UTF-8 and are shown as �; save the file as UTF-8.")


@dataclass
class _Columns:
    """What the columns of a table are."""

    n: int
    step: int | None
    """None where each run has its own"""
    may_lack_steps: bool
    """Whether a row without a step belongs to that of the last, as W&B's rows of an evaluation do"""
    run: int | None
    layer: int | None
    id: int | None = None
    """Of the run, beside its name"""
    step_of_run: Mapping[str | None, int] = field(default_factory=dict)
    """Of a panel along another axis"""
    key: int | None = None
    """Of a long table: the column's name stands in the row"""
    value: int | None = None
    time: int | None = None
    measured: tuple[tuple[int, str | None, str], ...] = ()
    """(position, run where the header names it, column)"""

    def run_of(self, row: list[str]) -> str | None:
        return row[self.run].strip()[:LONGEST_NAME] or None if self.run is not None else None

    def cells(self, row: list[str], named: str | None) -> Iterator[tuple[str | None, str, str]]:
        """(run, column, text) of what is not empty in a row."""
        if self.time is not None and row[self.time]:
            yield named, "_at", row[self.time].strip()
        if self.key is not None and self.value is not None:
            name, text = row[self.key].strip(), row[self.value].strip()
            if name and text and len(name) <= LONGEST_NAME:
                yield named, name, text
        for position, run, column in self.measured:
            if text := row[position].strip():
                yield named if run is None else run, column, text


def _columns(header: list[str], origin: str) -> _Columns:
    """What a header says; raises NptVizError where it has no step."""
    lower = [name.lower() for name in header]
    steps = [name for name in STEPS if name in lower]
    if not steps:
        if len(header) > 1 and all(_BETWEEN in name for name in header[1:] if name):
            return _along_another_axis(header, origin)
        raise _without_steps(header, origin)
    step = lower.index(steps[0])
    run = next((lower.index(name) for name in _RUN_NAMES if name in lower), None)
    key = next((lower.index(name) for name in _KEYS if name in lower), None)
    value = lower.index("value") if "value" in lower else None
    time = next((lower.index(name) for name in _TIMES if name in lower), None)
    columns = _Columns(
        n=len(header),
        step=step,
        may_lack_steps=len(steps) > 1 and steps[0] != STEPS[-1],
        run=run,
        layer=header.index("layer") if "layer" in header else None,
        id=next((lower.index(name) for name in _RUN_IDS if name in lower and lower.index(name) != run), None),
        time=None if "_runtime" in lower or "seconds" in lower else time,
    )
    if key is not None and value is not None:
        columns.key, columns.value = key, value
        return columns
    others = [
        (i, name)
        for i, name in enumerate(header)
        if name and len(name) <= LONGEST_NAME and lower[i] not in STEPS and i not in (run, time)
    ]
    if others and all(_BETWEEN in name for _, name in others):
        columns.measured = tuple(_of_panel(others))
        return columns
    is_own = {"layer", "total"} <= set(header)
    columns.measured = tuple(
        (i, None, "seconds" if name == "_runtime" else name)
        for i, name in others
        if not _is_bound(name, header)
        and (name == "_runtime" or lower[i] not in _NOT_MEASURED)
        and not (is_own and name == "layer")
    )
    return columns


def _without_steps(header: list[str], origin: str) -> NptVizError:
    first = ", ".join(name[:40] or "(no name)" for name in header[:5])
    is_of_runs = any(name.lower() in _RUN_NAMES or name == "Name" for name in header)
    return NptVizError(
        f"{origin}: has no column of steps ({', '.join(STEPS)}); its columns are {first}{' …' * (len(header) > 5)}: "
        + ("it is a table of runs with one value each; " if is_of_runs else "")
        + "export the metrics along the step"
    )


def _along_another_axis(header: list[str], origin: str) -> _Columns:
    """W&B's panel along a time, an epoch or another metric, where a column "run - _step" says the steps of each run."""
    names = list(enumerate(header))[1:]
    own: dict[str | None, int] = {
        name.rpartition(_BETWEEN)[0].strip(): i for i, name in names if name.endswith(f"{_BETWEEN}_step")
    }
    measured = list(_of_panel(names))
    if not measured or any(run not in own for _, run, _ in measured):
        raise NptVizError(
            f"{origin}: is drawn along “{header[0][:40]}” and not every run has a column “run - _step”, so it does not say which step a "
            "number is of; choose Step as the panel's x axis and export it again"
        )
    axis = "seconds" if header[0].lower() in _SINCE_START else "_at" if header[0].lower() in _TIMES else ""
    runs = dict.fromkeys(run for _, run, _ in measured)
    return _Columns(
        n=len(header),
        step=None,
        may_lack_steps=False,
        run=None,
        layer=None,
        step_of_run=own,
        measured=(*((0, run, axis) for run in runs if axis), *measured),
    )


def _is_bound(name: str, names: Collection[str]) -> bool:
    """Whether a column is the range of what was averaged for a picture."""
    return name.endswith(_BOUNDS) and name[: -len(_BOUNDS[0])] in names


def _of_panel(columns: list[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """W&B's "run - metric"; the ranges of a picture and the step of each run are no metrics."""
    names = {name for _, name in columns}
    for i, name in columns:
        if _is_bound(name, names):
            continue
        run, _, metric = name.rpartition(_BETWEEN)
        if metric.partition("__")[0] and metric.lower() not in STEPS and not metric.startswith("_step"):
            yield i, run.strip(), "seconds" if metric == "_runtime" else metric


@dataclass
class _Cells:
    """The numbers of one run, column by column."""

    columns: dict[tuple[str, str], tuple[array, array]] = field(default_factory=dict)
    """(layer, column) -> steps, values"""
    stages: dict[int, int | str] = field(default_factory=dict)
    last: int | None = None
    n_replaced: int = 0

    def __len__(self) -> int:
        return len(self.columns)

    def put(self, column: str, layer: str, step: int, value: float) -> None:
        steps, values = self.columns.setdefault((layer, column), (array("q"), array("d")))
        steps.append(step)
        values.append(value)

    def rows(self) -> Iterator[dict]:
        """A row for every layer and step, by step."""
        names = list(self.columns)
        steps = np.concatenate([np.frombuffer(self.columns[name][0], np.int64) for name in names])
        values = np.concatenate([np.frombuffer(self.columns[name][1]) for name in names])
        counts = [len(self.columns[name][0]) for name in names]
        which = np.repeat(np.arange(len(names)), counts)
        layers = {layer: i for i, layer in enumerate(dict.fromkeys(layer for layer, _ in names))}
        places = np.array([layers[layer] for layer, _ in names])[which]
        order = np.lexsort((places, steps))  # Stable: of equal ones the last stays the last.
        starts = np.flatnonzero(
            np.diff(steps[order], prepend=-1).astype(bool) | np.diff(places[order], prepend=-1).astype(bool)
        )
        began = min((min(self.columns[name][1]) for name in names if name[1] == "_at"), default=math.nan)
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            cells = order[start:end]
            step = int(steps[cells[0]])
            layer = names[which[cells[0]]][0]
            row: dict = {"step": step}
            for cell in cells:
                column = names[which[cell]][1]
                value = float(values[cell])
                if column == "_at":
                    row["seconds"] = value - began
                    continue
                self.n_replaced += column in row
                row[column] = value
            if layer:
                row["layer"] = _layer(layer)
            if step in self.stages:
                row[STAGES[0]] = self.stages[step]
            yield row


def _layer(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _time(text: str) -> float | None:
    """Seconds since 1970 of a number of seconds or milliseconds, or of a date."""
    try:
        when = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if not 0 <= when < STEPS_BELOW:
        return None
    return when / 1000 if when > _MILLISECONDS else when


def _encoding(file: IO[bytes]) -> str:
    """By the first bytes: UTF-16 where they say so, else UTF-8."""
    start = file.read(2)
    file.seek(0)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def is_export(name: str, start: bytes) -> bool:
    """Whether a file is read as a table: by its name, where it does not begin as a JSONL does."""
    return Path(name).suffix.lower() in SUFFIXES and not start.lstrip().startswith(b"{")

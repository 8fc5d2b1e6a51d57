"""Columns of numbers that grow row by row: a million lines of a log as arrays, not as objects."""

import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from itertools import repeat

import numpy as np

from npt_viz.results.training import Curves

STEPS_BELOW = 2**53
"""Step numbers that a float can hold too."""


class Table:
    """One layer's rows, in the order of their steps."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._columns: dict[str, array] = {}
        self._gaps: dict[str, array] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Add what was measured at a step; a value that is there already is replaced. Not finite: a gap."""
        row = self._row(step)
        for name, value in values.items():
            if not math.isfinite(value):
                self._gaps.setdefault(name, array("q")).append(step)
                value = math.nan
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = array("d")
            if len(column) == row:
                column.append(value)
            else:
                _pad(column, row + 1)
                column[row] = value

    def forget_from(self, step: int) -> None:
        """Drop this step and all that follow."""
        row = bisect_left(self._steps, step)
        del self._steps[row:]
        for column in self._columns.values():
            del column[row:]
        for name, steps in self._gaps.items():
            self._gaps[name] = array("q", [each for each in steps if each < step])

    def curves(self, layer: int | None) -> Curves:
        """All of it; NaN where a column has no value."""
        for column in self._columns.values():
            _pad(column, len(self))
        columns = {name: np.array(column) for name, column in self._columns.items()}
        return Curves(
            layer=layer,
            steps=np.array(self._steps),
            columns={name: values for name, values in columns.items() if np.isfinite(values).any()},
            gaps={name: np.unique(np.array(steps)) for name, steps in self._gaps.items() if len(steps)},
        )

    def _row(self, step: int) -> int:
        if not self._steps or step > self._steps[-1]:
            self._steps.append(step)
            return len(self._steps) - 1
        row = bisect_left(self._steps, step)
        if self._steps[row] != step:
            # A line of an evaluation that was written late.
            self._steps.insert(row, step)
            for column in self._columns.values():
                if row < len(column):
                    column.insert(row, math.nan)
        return row


def step_of(value: object) -> int | None:
    """A step number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 <= value < STEPS_BELOW or value != int(value):
        return None
    return int(value)


def number(value: object) -> float | None:
    """A number as a float, infinite where it is too large for one; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def measurement(value: object) -> float | None:
    """What was logged in place of a number: NaN for null, and what the words nan and inf stand for; None for other text."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return float(value) if value.strip().lower().lstrip("+-") in _NOT_FINITE else None
    return number(value)


_NOT_FINITE = ("nan", "inf", "infinity")


def _pad(column: array, length: int) -> None:
    column.extend(repeat(math.nan, length - len(column)))

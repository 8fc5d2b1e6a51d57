"""Table behind a figure: every number that it draws, one row a point."""

import html
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

COLUMNS = ("series", "x", "y", "z", "base", "text", "error_above", "error_below")


def table_of(figure: go.Figure) -> pd.DataFrame:
    """Rows of all traces and, as series of their own, of the lines that they are held against.

    series: name of the trace, or the words at a line. A map has one row a cell, with z its value; base: where a bar begins, its end being its number. Columns in which
    nothing stands are left out; what is not a number is NaN or None, as it is drawn: not at all.
    """
    rows = [
        row
        | {axis: words[row[axis]] for axis, words in _ticks(figure, trace).items() if row.get(axis) in words}
        for i, trace in enumerate(figure.data)
        for row in _of_trace(trace, i)
    ]
    rows += [row for i, shape in enumerate(figure.layout.shapes or ()) for row in _of_line(shape, i)]
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.loc[:, [name == "series" or found[name].notna().any() for name in COLUMNS]]


def _ticks(figure: go.Figure, trace) -> dict[str, dict]:
    """Axis of a trace -> its positions that stand for words, as at bars -> the words."""
    found = {}
    for axis in "xy":
        name = getattr(trace, f"{axis}axis", None) or axis
        ticks = figure.layout[f"{axis}axis{name[1:]}"]
        if ticks.ticktext is not None and ticks.tickvals is not None:
            found[axis] = dict(zip(ticks.tickvals, map(_words, ticks.ticktext), strict=True))
    return found


def _of_trace(trace, number: int) -> Iterator[dict]:
    series = trace.name or f"series {number + 1}"
    if getattr(trace, "z", None) is not None:
        z = np.asarray(trace.z)
        ys, xs = (_labels(trace[axis], n) for axis, n in zip("yx", z.shape, strict=True))
        yield from (
            {"series": series, "x": xs[j], "y": ys[i], "z": z[i, j]}
            for i in range(z.shape[0])
            for j in range(z.shape[1])
        )
        return
    columns = {axis: _values(trace[axis]) for axis in "xy"}
    length = max((len(column) for column in columns.values() if column is not None), default=0)
    columns["text"] = (
        None if (text := _values(getattr(trace, "text", None))) is None else list(map(_words, text))
    )
    if (bases := getattr(trace, "base", None)) is not None:
        # A bar is drawn from its base on: what it stands for is where it ends.
        along = "x" if trace.orientation == "h" else "y"
        columns["base"] = [bases] * length if np.isscalar(bases) else list(bases)
        lengths = columns[along] or [None] * length
        columns[along] = [
            None if size is None else start + size
            for start, size in zip(columns["base"], lengths, strict=True)
        ]
    for axis in "xy":
        if columns[axis] is None:
            columns[axis] = list(range(length))
        error = getattr(trace, f"error_{axis}", None)
        if error is not None and (above := _values(error.array)) is not None:
            below = _values(error.arrayminus)
            columns |= {"error_above": above, "error_below": above if below is None else below}
    given = {name: column for name, column in columns.items() if column is not None and len(column) == length}
    for i in range(length):
        yield {"series": series} | {name: column[i] for name, column in given.items()}


def _of_line(shape, number: int) -> Iterator[dict]:
    if shape.type == "line":
        name = (shape.label.text if shape.label else None) or shape.name or f"line {number + 1}"
        # An end that is placed along the figure, from 0 to 1, is no number of it.
        along = [axis for axis in "xy" if not str(shape[f"{axis}ref"]).endswith("domain")]
        ends = [{axis: shape[f"{axis}{end}"] for axis in along} for end in "01"]
        yield from ({"series": name} | end for end in (ends if ends[0] != ends[1] else ends[:1]))


def _words(text: object) -> str:
    """Text of a figure, which has markup, as it is read."""
    return html.unescape(re.sub("<[^>]*>", "", str(text).replace("<br>", ", ")))


def _values(column) -> list | None:
    if column is None or isinstance(column, str):
        return None
    return list(column)


def _labels(labels, n: int) -> list:
    return list(range(n)) if labels is None else list(labels)

"""Numbers of the history's entries as bytes: an inspection or tables, compressed, read without executing anything."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.files import plain_json
from npt_viz.results.inspection import Inspection, LayerInspection, Token, TopTokens

MOST_UNPACKED = 2**28
"""Bytes up to which numbers are unpacked."""

_LEVEL = 1
"""Of zlib: the digits of floats hardly compress, and a page waits."""

Tables = dict[str, list[dict[str, Any]]]
"""Label of a table -> its rows, each column name -> cell: text, a number, True or False, or None for what is not finite."""


def packed(run: Inspection) -> bytes:
    """An inspection as bytes, every number exactly."""
    arrays: list[np.ndarray] = []
    content = {each.name: _tree(getattr(run, each.name), arrays) for each in fields(run)}
    shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
    head = json.dumps({"inspection": content, "arrays": shapes}).encode()
    parts = [len(head).to_bytes(8), head, *(np.ascontiguousarray(array).tobytes() for array in arrays)]
    return zlib.compress(b"".join(parts), _LEVEL)


def unpacked(content: bytes) -> Inspection:
    """Inspection of `packed`. Raises NptVizError where the bytes are none."""
    try:
        data = _decompressed(content)
        start = 8 + int.from_bytes(data[:8])
        head = json.loads(data[8:start])
        arrays = []
        for dtype, shape in head["arrays"]:
            kind = np.dtype(dtype)
            if kind.kind not in "fiub":
                raise ValueError(dtype)
            count = int(np.prod(shape, dtype=np.int64))
            arrays.append(np.frombuffer(data, kind, count, start).reshape(shape))
            start += count * kind.itemsize
        return _inspection(head["inspection"], arrays)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, zlib.error):
        raise _damaged() from None


def without_text(run: Inspection) -> Inspection:
    """The inspection without a word of its prompt, of what follows it, or of the notes: tokens are numbered."""
    pieces = tuple(Token(f"#{i}", piece.kind, 0, "") for i, piece in enumerate(run.pieces))
    return replace(run, prompt="", pieces=pieces, base_top=None, npt_top=None, notes=())


def packed_tables(tables: Mapping[str, Sequence[Mapping[str, Any]]], *, with_text: bool = True) -> bytes:
    """Tables as bytes. with_text: False leaves out every text in a cell."""
    rows = {
        label: [
            {name: "" if isinstance(cell, str) and not with_text else cell for name, cell in row.items()}
            for row in table
        ]
        for label, table in tables.items()
    }
    return zlib.compress(json.dumps({"tables": plain_json(rows)}).encode(), _LEVEL)


def unpacked_tables(content: bytes) -> Tables:
    """Tables of `packed_tables`. Raises NptVizError where the bytes are none."""
    try:
        tables = json.loads(_decompressed(content))["tables"]
        if not all(isinstance(row, dict) for table in tables.values() for row in table):
            raise ValueError("no tables")
        return tables
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        raise _damaged() from None


def _decompressed(content: bytes) -> bytes:
    reader = zlib.decompressobj()
    data = reader.decompress(content, MOST_UNPACKED)
    if reader.unconsumed_tail or not reader.eof:
        raise ValueError("cut, or too long")
    return data


def _damaged() -> NptVizError:
    return NptVizError(
        "the numbers that were kept of this entry are damaged; reopen it to compute them again"
    )


def _tree(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value as JSON has it; arrays are put into the list, and their place stands for them."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return len(arrays) - 1
    if isinstance(value, LayerInspection | TopTokens):
        return {each.name: _tree(getattr(value, each.name), arrays) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _tree(item, arrays) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_tree(item, arrays) for item in value]
    return value


def _inspection(content: dict[str, Any], arrays: list[np.ndarray]) -> Inspection:
    values = dict(content)
    for name in ("is_sink", "kl", "nll_base", "nll_npt"):
        values[name] = None if values[name] is None else arrays[values[name]]
    for name in ("base_top", "npt_top"):
        values[name] = _top(values[name], arrays)
    values["pieces"] = tuple(Token(*piece) for piece in values["pieces"])
    values["notes"] = tuple(values["notes"])
    values["layers"] = {int(layer): _layer(each, arrays) for layer, each in values["layers"].items()}
    return Inspection(**values)


def _layer(content: dict[str, Any], arrays: list[np.ndarray]) -> LayerInspection:
    values: dict[str, Any] = {
        name: {target: arrays[place] for target, place in value.items()} if isinstance(value, dict) else value
        for name, value in content.items()
    }
    of_tokens = [name for name, value in values.items() if isinstance(value, int) and name != "layer"]
    return LayerInspection(**values | {name: arrays[values[name]] for name in of_tokens})


def _top(content: dict[str, Any] | None, arrays: list[np.ndarray]) -> TopTokens | None:
    if content is None:
        return None
    return TopTokens(
        ids=arrays[content["ids"]],
        probabilities=arrays[content["probabilities"]],
        glyphs=tuple(map(tuple, content["glyphs"])),
    )

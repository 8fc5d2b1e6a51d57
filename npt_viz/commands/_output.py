"""What commands print: JSON or a table on stdout, progress and messages on stderr."""

import json
import math
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any


def print_json(value: object) -> None:
    """One line of strict JSON; NaN and infinity, which JSON does not have, are null."""
    # ASCII: a terminal's encoding must not decide whether a glyph can be printed.
    print(json.dumps(plain(value), allow_nan=False), flush=True)


def plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers and None, made of arrays, dataclasses and tuples."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def say(message: str) -> None:
    """Print a message to stderr, never to stdout."""
    print(message, file=sys.stderr, flush=True)


def progress(stage: str, fraction: float | None = None) -> None:
    """Progress callback: on a terminal one line that changes, elsewhere nothing."""
    if sys.stderr.isatty():
        share = "" if fraction is None else f" {fraction:4.0%}"
        end = "\n" if fraction == 1.0 else ""
        print(f"\r\033[K{stage}{share}", end=end, file=sys.stderr, flush=True)


def stages() -> Callable[[str, float | None], None]:
    """Progress callback for work of minutes: where there is no terminal, a line for each stage and quarter of it."""
    printed: set[tuple[str, int]] = set()

    def progress_or_line(stage: str, fraction: float | None = None) -> None:
        progress(stage, fraction)
        quarter = int(4 * (fraction or 0.0))
        if (stage, quarter) not in printed and not sys.stderr.isatty():
            printed.add((stage, quarter))
            say(f"{stage}, {quarter / 4:.0%}" if quarter else stage)

    return progress_or_line


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of equal width: text to the left, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headers, *cells, strict=True)]
    is_text = [any(isinstance(row[i], str) for row in rows) for i in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = (
            value + pad if left else pad + value
            for value, width, left in zip(values, widths, is_text, strict=True)
            for pad in [" " * (width - _width(value))]
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), *map(line, cells)])


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _width(text: str) -> int:
    """Columns on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )

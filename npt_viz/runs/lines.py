"""Lines of a log, one at a time: a broken line is counted and skipped, and no line can fill the memory."""

import json
from collections.abc import Iterator
from typing import IO

LONGEST_LINE = 16 * 2**20
"""Bytes; a file that is no log may have no line ends at all."""

NAMED = 5
"""How many of the skipped lines are named."""


class Lines:
    """Iterates the objects of a JSONL file; what was skipped is known afterwards."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.number = 0
        """Of the line that was read last, 1 for the first."""
        self.skipped = 0
        self.named: list[tuple[int, str]] = []
        """(line, what is wrong with it) of the first skipped ones."""

    def __iter__(self) -> Iterator[dict]:
        while line := self._file.readline(LONGEST_LINE):
            self.number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                self._read_to_the_end()
                self.skip(f"longer than {LONGEST_LINE // 2**20} MB")
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                # A log that is being written ends in half a line.
                self.skip("not JSON" if line.endswith(b"\n") else "not finished")
                continue
            if isinstance(row, dict):
                yield row
            else:
                self.skip("no object")

    def skip(self, reason: str) -> None:
        """Count the line that was read last among the skipped."""
        self.skipped += 1
        if len(self.named) < NAMED:
            self.named.append((self.number, reason))

    @property
    def sentence(self) -> str:
        """Sentence on the skipped lines; empty where there are none."""
        if not self.skipped:
            return ""
        named = ", ".join(f"line {number:,} ({reason})" for number, reason in self.named)
        more = f" and {self.skipped - len(self.named):,} more" if self.skipped > len(self.named) else ""
        lines = "1 line was" if self.skipped == 1 else f"{self.skipped:,} lines were"
        return f"{lines} skipped: {named}{more}."

    def _read_to_the_end(self) -> None:
        while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass

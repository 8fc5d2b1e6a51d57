"""Entries of a log, one at a time: a broken one is counted and skipped, and none can fill the memory."""

import json
from collections.abc import Iterator, Mapping
from typing import IO

LONGEST_LINE = 16 * 2**20
"""Bytes; a file that is no log may have no line ends at all."""

LONGEST_NAME = 200
"""Letters of a column's name; nothing that was measured is called longer."""

NAMED = 5
"""How many of the skipped entries are named."""


class Entries:
    """Iterates (run, row) of a log; what was skipped, and what else the log says, is known afterwards."""

    noun = "line"

    is_table = False
    """Whether rows stand in no order that means anything, so that steps that go back are no resume."""

    is_own = False
    """Whether the columns are known to be those of npt_viz."""

    def __init__(self) -> None:
        self.number = 0
        """Of the entry that was read last, 1 for the first."""
        self.skipped = 0
        self.named: list[tuple[int, str]] = []
        """(entry, what is wrong with it) of the first skipped ones."""
        self.notes: list[str] = []
        """What a reader must know of the file, a sentence each."""
        self.config: Mapping = {}
        """Settings of the training, where the log itself has them."""
        self.name = ""
        """Of the run, where the log itself has one."""

    def __iter__(self) -> Iterator[tuple[str | None, dict]]:
        """run: which one a row belongs to; None in a log of one."""
        raise NotImplementedError

    def skip(self, reason: str) -> None:
        """Count the entry that was read last among the skipped."""
        self.skipped += 1
        if len(self.named) < NAMED:
            self.named.append((self.number, reason))

    @property
    def sentence(self) -> str:
        """Sentence on the skipped entries; empty where there are none."""
        if not self.skipped:
            return ""
        named = ", ".join(f"{self.noun} {number:,} ({reason})" for number, reason in self.named)
        more = f" and {self.skipped - len(self.named):,} more" if self.skipped > len(self.named) else ""
        were = f"1 {self.noun} was" if self.skipped == 1 else f"{self.skipped:,} {self.noun}s were"
        return f"{were} skipped: {named}{more}."


class Lines(Entries):
    """The objects of a JSONL file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def __iter__(self) -> Iterator[tuple[str | None, dict]]:
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
                yield None, row
            else:
                self.skip("no object")

    def _read_to_the_end(self) -> None:
        while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass

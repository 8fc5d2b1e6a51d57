"""History of one browser: what was asked, what it said, and its numbers, in one SQLite file in the browser's folder.

A transaction is written whole or not at all, also where the process is killed in the middle of it, and writers wait for
each other. An entry that cannot be written waits in memory until it can be.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.history_file import (
    COLUMNS,
    UNDO_SECONDS,
    VERSION,
    connected,
    entry_of,
    fits,
    header,
    insert,
    is_broken,
    is_ours,
    is_text,
    prepare,
    read_json,
    rule,
    trim,
)

MOST = 2000
"""Entries that are kept."""

MOST_WAITING = 200
"""Entries that wait in memory: of a browser that has no folder, or for a disk that takes nothing."""

MOST_WAITING_BYTES = 64_000_000
"""What their numbers take at most; those of the oldest go first."""

LONGEST_NUMBERS = 16_000_000
"""Bytes of the numbers of one entry; what has more is kept without them."""


class Found(NamedTuple):
    """Entries that were looked for."""

    entries: tuple[Entry, ...]
    """The newest first; as many as were asked for."""
    n: int
    """How many there are in all."""


class History:
    """The history of one browser; safe between threads and between processes."""

    def __init__(self, file: Path, *, most: int = MOST) -> None:
        """file: made, with the folders above it, when something is written."""
        self.file = file
        self._most = most
        self._waiting: dict[str, tuple[Entry, bytes | None]] = {}
        self._gone: dict[str, tuple[Entry, bytes | None]] = {}
        """What the last deletion took of those that wait."""
        self._gone_at = 0.0
        self._lock = threading.Lock()
        """Of what is in memory, never held while the disk is written."""
        self._writing = threading.RLock()
        self._sayings: list[str] = []
        self._said_damaged = False

    def put(self, entry: Entry, numbers: bytes | None = None) -> None:
        """Take an entry, in place of an earlier one of its key, whose tags it keeps; `write` brings it to the disk."""
        if numbers is not None and len(numbers) > LONGEST_NUMBERS:
            numbers = None
        entry = replace(entry, n_bytes=len(numbers or b""))
        with self._lock:
            before = self._waiting.pop(entry.key, None)
            if before and not entry.tags:
                entry = replace(entry, tags=before[0].tags)
            self._waiting[entry.key] = entry, numbers
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
            too_much = sum(each.n_bytes for each, _ in self._waiting.values()) - MOST_WAITING_BYTES
            for key, (each, _) in list(self._waiting.items()):
                if too_much > 0 and each.n_bytes:
                    too_much -= each.n_bytes
                    self._waiting[key] = replace(each, n_bytes=0), None

    @property
    def waits(self) -> bool:
        """Whether something is not on the disk."""
        return bool(self._waiting)

    def write(self, *, most_bytes: float = float("inf")) -> None:
        """Write what waits, then remove the oldest that are beyond the bound; those with tags go last.

        most_bytes: what the entries and their numbers may take. Numbers go before entries.
        Raises NptVizError where it cannot be written; then it waits on.
        """
        with self._writing:
            with self._lock:
                going = dict(self._waiting)
            if not going:
                return
            with self._changed() as base:
                for entry, numbers in going.values():
                    insert(base, entry, numbers)
                trim(base, self._most, most_bytes)
            with self._lock:
                for key, held in going.items():
                    if self._waiting.get(key) is held:
                        del self._waiting[key]

    def found(
        self, text: str = "", *, kind: str = "", tag: str = "", first: int = 0, most: int | None = None
    ) -> Found:
        """Entries that have all words of a text, the newest first. Raises NptVizError where the file cannot be read.

        A damaged one is counted and left out, with a sentence.
        """
        words = text.casefold().split()
        with self._lock:
            waiting = sorted((entry for entry, _ in self._waiting.values()), key=lambda entry: -entry.time)
        fitting = [entry for entry in waiting if fits(entry, words, kind, tag)]
        rows, n = [], 0
        with self._looked_at() as base:
            if base is not None:
                where, values = rule(words, kind, tag, [entry.key for entry in waiting])
                n = base.execute(f"SELECT count(*) FROM entries WHERE {where}", values).fetchone()[0]
                here = max(0, first - len(fitting))
                room = -1 if most is None else max(0, most - len(fitting[first : first + most]))
                rows = base.execute(
                    f"SELECT {COLUMNS} FROM entries WHERE {where} ORDER BY time DESC LIMIT ? OFFSET ?",
                    (*values, room, here),
                ).fetchall()
        shown = fitting[first:] if most is None else fitting[first : first + most]
        return Found((*shown, *filter(None, map(self._read, rows))), n + len(fitting))

    def entry(self, key: str) -> Entry | None:
        """Entry of a key; None where there is none, or it was deleted."""
        with self._lock:
            if key in self._waiting:
                return self._waiting[key][0]
        with self._looked_at() as base:
            row = (
                base
                and base.execute(
                    f"SELECT {COLUMNS} FROM entries WHERE key = ? AND deleted IS NULL", (key,)
                ).fetchone()
            )
        return self._read(row) if row else None

    def numbers(self, key: str) -> bytes | None:
        """Numbers of an entry; None where none are kept."""
        with self._lock:
            if key in self._waiting:
                return self._waiting[key][1]
        with self._looked_at() as base:
            row = base and base.execute("SELECT content FROM numbers WHERE key = ?", (key,)).fetchone()
        return row[0] if row and isinstance(row[0], bytes) else None

    def tags(self) -> list[str]:
        """All tags in use."""
        with self._lock:
            found = {tag for entry, _ in self._waiting.values() for tag in entry.tags}
        with self._looked_at() as base:
            if base is not None:
                rows = base.execute(
                    "SELECT DISTINCT tags FROM entries WHERE tags != '[]' AND deleted IS NULL"
                )
                found |= {str(tag) for (tags,) in rows if is_text(tags) for tag in read_json(tags, list)}
        return sorted(found, key=str.casefold)

    def tag(self, key: str, tags: Sequence[str]) -> None:
        """Give an entry these tags. Raises NptVizError where it cannot be written."""
        entry = self.entry(key)
        if entry is None:
            return
        entry = replace(entry, tags=tuple(dict.fromkeys(filter(None, (" ".join(t.split()) for t in tags)))))
        with self._lock:
            if key in self._waiting:
                self._waiting[key] = entry, self._waiting[key][1]
                return
        with self._changed() as base:
            base.execute(
                "UPDATE entries SET tags = ?, words = ? WHERE key = ?",
                (json.dumps(entry.tags), entry.words, key),
            )

    def delete(self, *keys: str) -> None:
        """Delete entries, or all where none are named; `bring_back` undoes the last deletion.

        Raises NptVizError where it cannot be written; nothing is deleted then.
        """
        with self._writing:
            if self.file.exists():
                with self._changed() as base:
                    base.execute("DELETE FROM entries WHERE deleted IS NOT NULL")
                    chosen = f"key IN ({','.join('?' * len(keys))})" if keys else "1"
                    base.execute(f"UPDATE entries SET deleted = ? WHERE {chosen}", (time.time(), *keys))
            with self._lock:
                going = [key for key in self._waiting if not keys or key in keys]
                self._gone = {key: self._waiting.pop(key) for key in going}
                self._gone_at = time.time()

    def deleted(self) -> int:
        """Number of entries that can be brought back."""
        since = time.time() - UNDO_SECONDS
        with self._looked_at() as base:
            rows = base.execute("SELECT key FROM entries WHERE deleted > ?", (since,)) if base else ()
            gone = self._gone if self._gone_at > since else ()
            return len({*gone, *(key for (key,) in rows)})

    def bring_back(self) -> None:
        """Undo the last deletion, while it can be taken back. Raises NptVizError where it cannot be written."""
        since = time.time() - UNDO_SECONDS
        with self._writing:
            if self.file.exists():
                with self._changed() as base:
                    base.execute("UPDATE entries SET deleted = NULL WHERE deleted > ?", (since,))
            with self._lock:
                if self._gone_at > since:
                    self._waiting = {**self._gone, **self._waiting}
                self._gone = {}

    def sayings(self) -> list[str]:
        """Take the sentences about what was wrong with the file."""
        with self._lock:
            taken, self._sayings = self._sayings, []
        return taken

    def _read(self, row: Sequence[Any]) -> Entry | None:
        """Entry of a row; None for a damaged one, which is said once."""
        try:
            return entry_of(row)
        except ValueError:
            with self._lock:
                if not self._said_damaged:
                    self._sayings.append("Entries of the history that are damaged are left out.")
                self._said_damaged = True
            return None

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """The file to write into: all of the block, or nothing of it."""
        with self._explained("cannot be written"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._check()
            with closing(connected(self.file, "rwc")) as base:
                prepare(base)
                base.execute("BEGIN IMMEDIATE")
                try:
                    yield base
                    base.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        base.execute("ROLLBACK")
                    raise

    @contextmanager
    def _looked_at(self) -> Iterator[sqlite3.Connection | None]:
        """The file to read; None where nothing was written yet."""
        with self._explained("cannot be read"):
            self._check()
            if not self.file.exists() or not self.file.stat().st_size:
                yield None
                return
            with closing(connected(self.file, "rw")) as base:
                yield base

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Inside the block what goes wrong with the file is one sentence; a damaged one is set aside."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if is_broken(error):
                self._set_aside()
            why = "the file is damaged" if isinstance(error, UnicodeDecodeError) else error
            raise NptVizError(f"{self.file}: the history {what} ({why})") from None
        except OSError as error:
            raise NptVizError(f"{self.file}: the history {what} ({error.strerror or error})") from None

    def _check(self) -> None:
        """Raises NptVizError for a file of a newer version, which is neither opened nor changed; sets aside another's."""
        found = header(self.file)
        if found is None:
            return
        if not found.is_history:
            self._set_aside()
        elif found.version > VERSION:
            raise NptVizError(
                f"{self.file}: the history has version {found.version} and this npt_viz reads {VERSION}, so nothing there "
                "was read or changed; update npt_viz. Until then the history is kept only while this server runs"
            )
        else:
            with closing(connected(self.file, "rw")) as base:
                ours = is_ours(base)
            if not ours:
                self._set_aside()

    def _set_aside(self) -> None:
        aside = self.file.with_name(f"{self.file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        with suppress(OSError):
            self.file.replace(aside)
            self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)
            with self._lock:
                self._sayings.append(
                    f"The history was damaged and was set aside as {aside.name}; it begins anew."
                )

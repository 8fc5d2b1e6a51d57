"""The SQLite file of a history: its tables and version, what is written, removed and looked for."""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from npt_viz.workspace.entry import Entry

VERSION = 1
APPLICATION = 0x6E70_7476
"""What SQLite's header says of whose file it is: nptv."""

UNDO_SECONDS = 3600.0
"""Time in which a deletion can be taken back; the first writing after it removes it from the file."""

_PATIENCE = 5.0
"""Seconds to wait for another writer."""

_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MAGIC = b"SQLite format 3\0"

_CREATE = """
CREATE TABLE entries (
    key TEXT PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL, page TEXT NOT NULL, title TEXT NOT NULL,
    sentence TEXT NOT NULL, prompt TEXT NOT NULL, settings TEXT NOT NULL, choices TEXT NOT NULL, tags TEXT NOT NULL,
    model TEXT NOT NULL, model_stamp TEXT NOT NULL, checkpoint TEXT NOT NULL, checkpoint_stamp TEXT NOT NULL,
    folder TEXT NOT NULL, thumbnail TEXT NOT NULL, n_bytes INTEGER NOT NULL, words TEXT NOT NULL, deleted REAL
);
CREATE INDEX by_time ON entries (time);
CREATE TABLE numbers (key TEXT PRIMARY KEY REFERENCES entries (key) ON DELETE CASCADE, content BLOB NOT NULL);
"""


COLUMNS = ", ".join(each.name for each in fields(Entry))
"""Of an entry, in the order of `entry_of`."""


class Header(NamedTuple):
    """What the first bytes of a file say, without SQLite: nothing is touched."""

    is_history: bool
    version: int


def header(file: Path) -> Header | None:
    """Header of a file; None where nothing was written yet. Raises OSError where it cannot be read."""
    try:
        with file.open("rb") as opened:
            head = opened.read(100)
    except FileNotFoundError:
        return None
    is_history = head.startswith(_MAGIC) and int.from_bytes(head[68:72]) in (0, APPLICATION)
    return Header(is_history, int.from_bytes(head[60:64])) if head else None


def is_broken(error: Exception) -> bool:
    """Whether an error says that the file is damaged, and not that it cannot be reached."""
    # Values are decoded whatever they are: what cannot be is a name in the tables, which SQLite quotes.
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN


def free_numbers(file: Path, keys: Sequence[str]) -> None:
    """Drop the numbers of some entries of a history file, which stay without them."""
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(connected(file, "rw")) as base:
        base.execute("BEGIN IMMEDIATE")
        for key in keys:
            _drop_numbers(base, key)
        base.execute("COMMIT")


def kept_numbers(file: Path) -> list[tuple[str, float, int]]:
    """Key, time and bytes of the entries of a history file that have numbers; none where it cannot be read."""
    try:
        found = header(file)
        if found is None or not found.is_history or found.version > VERSION:
            return []
        with closing(connected(file, "rw")) as base:
            rows = base.execute("SELECT key, time, n_bytes FROM entries WHERE n_bytes > 0").fetchall()
    except (OSError, sqlite3.Error, UnicodeDecodeError):
        return []
    return [row for row in rows if is_text(row[0]) and _is_number(row[1]) and _is_number(row[2])]


def connected(file: Path, mode: str) -> sqlite3.Connection:
    """The file, open. mode: rw, or rwc to make it where it is missing.

    Readers too take rw: they undo what a killed writer has left half done. On a read-only disk SQLite reads all the same.
    """
    base = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE, isolation_level=None
    )
    base.text_factory = _decoded
    base.execute("PRAGMA foreign_keys = ON")
    # What is deleted is not to be found in the file.
    base.execute("PRAGMA secure_delete = ON")
    return base


def _decoded(text: bytes) -> str:
    """Text of a row; bytes that are none become half character pairs, so that one row cannot hide the others."""
    return text.decode("utf-8", "surrogateescape")


def is_ours(base: sqlite3.Connection) -> bool:
    """Whether a file has the tables of a history, or none at all."""
    # Another server may make the tables meanwhile: all of this is before it or after it.
    base.execute("BEGIN")
    try:
        if _version(base) == 0:
            return base.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
        base.execute(f"SELECT {COLUMNS}, words, deleted FROM entries LIMIT 0")
        base.execute("SELECT key, content FROM numbers LIMIT 0")
        base.execute("EXPLAIN DELETE FROM entries")  # It does not run; the link between the two is looked at.
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # No such table, no such column.
            return False
        raise
    finally:
        with suppress(sqlite3.Error):
            base.execute("COMMIT")
    return True


def prepare(base: sqlite3.Connection) -> None:
    """Make the tables where they are missing; two servers may do it at once."""
    if _version(base) == VERSION:
        return
    base.execute("PRAGMA auto_vacuum = FULL")  # The file shrinks when something goes.
    base.execute("BEGIN IMMEDIATE")
    if _version(base) == 0:
        for statement in _CREATE.split(";"):
            base.execute(statement)
        base.execute(f"PRAGMA application_id = {APPLICATION}")
        base.execute(f"PRAGMA user_version = {VERSION}")
    base.execute("COMMIT")


def _version(base: sqlite3.Connection) -> int:
    return base.execute("PRAGMA user_version").fetchone()[0]


def insert(base: sqlite3.Connection, entry: Entry, numbers: bytes | None) -> None:
    """Write an entry over an earlier one of its key, whose tags stay where it has none."""
    before = base.execute(
        "SELECT tags FROM entries WHERE key = ? AND deleted IS NULL", (entry.key,)
    ).fetchone()
    if before and not entry.tags:
        entry = replace(entry, tags=tuple(read_json(before[0], list)))
    row = asdict(entry) | {"words": entry.words, "deleted": None}
    values = [
        json.dumps(value) if isinstance(value, dict | tuple) else _storable(value) for value in row.values()
    ]
    base.execute("DELETE FROM entries WHERE key = ?", (entry.key,))
    base.execute(f"INSERT INTO entries ({', '.join(row)}) VALUES ({','.join('?' * len(row))})", values)
    if numbers is not None:
        base.execute("INSERT INTO numbers VALUES (?, ?)", (entry.key, numbers))


def _storable(value: Any) -> Any:
    """Text as SQLite takes it: half a character pair is a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def trim(base: sqlite3.Connection, most: int, most_bytes: float) -> None:
    """Remove what is beyond the bound: the oldest first, those with tags last; numbers before entries."""
    base.execute("DELETE FROM entries WHERE deleted < ?", (time.time() - UNDO_SECONDS,))
    base.execute(
        "DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY deleted IS NULL DESC, tags != '[]' DESC, "
        "time DESC LIMIT -1 OFFSET ?)",
        (most,),
    )
    rows = base.execute(
        "SELECT CAST(key AS BLOB), ifnull(CAST(n_bytes AS INTEGER), 0), "
        "ifnull(length(words) + length(prompt) + length(settings) + length(choices) + length(thumbnail), 0) "
        "FROM entries ORDER BY tags != '[]', time"
    ).fetchall()
    too_much = sum(numbers + others for _, numbers, others in rows) - most_bytes
    for key, numbers, _ in rows:
        if too_much > 0 and numbers:
            _drop_numbers(base, key)
            too_much -= numbers
    for key, _, others in rows:
        if too_much > 0:
            base.execute("DELETE FROM entries WHERE key = CAST(? AS TEXT)", (key,))
            too_much -= others


def _drop_numbers(base: sqlite3.Connection, key: str | bytes) -> None:
    """key: as bytes it may be damaged."""
    base.execute("DELETE FROM numbers WHERE key = CAST(? AS TEXT)", (key,))
    base.execute("UPDATE entries SET n_bytes = 0 WHERE key = CAST(? AS TEXT)", (key,))


def fits(entry: Entry, words: Sequence[str], kind: str, tag: str) -> bool:
    """The rule of `rule`, for an entry in memory."""
    text = entry.words
    return all(word in text for word in words) and kind in ("", entry.kind) and (not tag or tag in entry.tags)


def rule(words: Sequence[str], kind: str, tag: str, without: Sequence[str]) -> tuple[str, list[str]]:
    """What is looked for, as SQL and its values."""
    rules, values = ["deleted IS NULL"], []
    for word in words:
        rules.append("instr(words, ?)")
        values.append(word)
    if kind:
        rules.append("kind = ?")
        values.append(kind)
    if tag:
        rules.append(
            "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags ELSE '[]' END) WHERE value = ?)"
        )
        values.append(tag)
    if without:
        rules.append(f"key NOT IN ({','.join('?' * len(without))})")
        values += without
    return " AND ".join(rules), values


def entry_of(row: Sequence[Any]) -> Entry:
    """Entry of a row of COLUMNS. Raises ValueError for a damaged one."""
    values: dict[str, Any] = dict(zip((each.name for each in fields(Entry)), row, strict=True))
    for name, value in values.items():
        if not (_is_number(value) if name in ("time", "n_bytes") else is_text(value)):
            raise ValueError(f"{name} is damaged")
    values |= {name: read_json(values[name], dict) for name in ("settings", "choices")}
    values["tags"] = tuple(map(str, read_json(values["tags"], list)))
    return Entry(**values)


def is_text(value: Any) -> bool:
    """Whether a value of a row is undamaged text."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def read_json(text: str, kind: Callable[[], Any]) -> Any:
    """What a text holds; an empty one of the kind where it holds something else."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return kind()
    return value if isinstance(value, type(kind())) else kind()

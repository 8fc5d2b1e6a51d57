"""Texts of a corpus, one after the other: never more of it in memory than one text, or a block of a long one.

.txt, .md, .text        one text a file; `split="blank lines"`: one text a paragraph
.jsonl, .ndjson         one text a line, under `field`; blank lines are skipped
.parquet                one text a row, in the column `field`
a folder of `datasets`  one text a row, in the column `field` (Dataset.save_to_disk)
any other folder        all of these files below it, in the order of their paths
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from npt_viz.arguments import checked_fields
from npt_viz.errors import NptVizError
from npt_viz.identity import content_kind, damage_of
from npt_viz.places import absent, refuse_special, shown, typed_path
from npt_viz.texts import SAMPLE

Split = Literal["file", "blank lines"]

PLAIN = (".txt", ".md", ".text")
LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
ARROW = ".arrow"
ENDINGS = (*PLAIN, *LINES, PARQUET)

BLOCK = 2**16
"""Characters of a text that are tokenised at once: a longer one is cut there, at white space where it has any."""

ROWS = 256
"""Rows of a table that are read at once."""

SAMPLE_NAME = "sample"
"""Name of the texts that come with npt_viz."""


class CorpusFile(NamedTuple):
    """One file of a corpus, as it was when the scan began."""

    path: Path
    bytes: int
    changed_ns: int
    """Time of its last change."""


class Block(NamedTuple):
    """A text, or a part of a long one."""

    text: str
    source: str
    """File and line, row or paragraph, for people."""
    document: int
    """Number of the text in the corpus."""
    block: int
    """Number of the block in its text."""
    read: float
    """Share of the corpus's bytes that have been read."""


@checked_fields
@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is read, and how."""

    paths: tuple[str, ...]
    """Files, folders and patterns with * or ?; `sample` is the text that comes with npt_viz."""

    field: str = "text"
    """Of JSON lines and tables."""

    split: Split = "file"
    """Of plain text: one text a file, or one a paragraph."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise NptVizError("the corpus is empty; give at least one file, folder or pattern")
        if self.split not in ("file", "blank lines"):
            raise NptVizError(f"split {self.split!r} does not exist; choose file or blank lines")

    def files(self) -> tuple[CorpusFile, ...]:
        """The files, in the order in which they are read; raises NptVizError where one cannot be."""
        found = [file for path in self.paths for file in _files_of(path)]
        return tuple(dict.fromkeys(map(_listed, found)))


def as_corpus(corpus: "Corpus | str | Path | Sequence[str | Path]", **settings: Any) -> Corpus:
    """A corpus from paths; itself where it is one, with the settings that are given in place of its own."""
    if isinstance(corpus, Corpus):
        return replace(corpus, **settings)
    paths = [corpus] if isinstance(corpus, str | Path) else corpus
    return Corpus(paths=tuple(map(str, paths)), **settings)


class Reader:
    """Reads the files of a corpus once; counts what it skips."""

    def __init__(self, corpus: Corpus, files: Sequence[CorpusFile] | None = None) -> None:
        self.corpus = corpus
        self.files = corpus.files() if files is None else tuple(files)
        self.skipped = {"empty": 0}
        """Texts without a letter or sign."""
        self._total = max(1, sum(file.bytes for file in self.files))
        self._before = 0
        self._documents = 0

    def blocks(self) -> Iterator[Block]:
        """All texts, in order.

        Raises NptVizError for a file that is undecodable, has a line or row without a text, or is no longer what it was
        when the scan began.
        """
        for file in self.files:
            self._refuse_changed(file)
            try:
                yield from self._blocks_of(file)
            except OSError as error:
                raise NptVizError(
                    f"{shown(file.path)} cannot be read ({error.strerror or error}); check the disk and its permissions"
                ) from None
            self._refuse_changed(file)
            self._before += file.bytes

    def _blocks_of(self, file: CorpusFile) -> Iterator[Block]:
        ending = file.path.suffix.lower()
        if ending in (PARQUET, ARROW):
            rows = _parquet_rows if ending == PARQUET else _arrow_rows
            for number, (text, read) in enumerate(rows(file, self.corpus.field)):
                yield from self._of_text(
                    text, f"{file.path.name}, row {number}", file, int(read * file.bytes)
                )
        elif ending in LINES:
            yield from self._of_lines(file)
        else:
            yield from self._of_plain(file)

    def _of_lines(self, file: CorpusFile) -> Iterator[Block]:
        with file.path.open("rb") as opened:
            done = 0
            for number, line in enumerate(opened, 1):
                done += len(line)
                if not line.strip():
                    self.skipped["empty"] += 1
                    continue
                where = f"{file.path.name}, line {number}"
                yield from self._of_text(
                    _text_of_line(line, file, number, self.corpus.field), where, file, done
                )

    def _of_plain(self, file: CorpusFile) -> Iterator[Block]:
        with file.path.open("rb") as opened:
            if self.corpus.split == "file":
                yield from self._of_pieces(_decoded(opened, file), file.path.name, file, opened)
                return
            for number, paragraph in enumerate(_paragraphs(_decoded(opened, file)), 1):
                where = f"{file.path.name}, paragraph {number}"
                yield from self._of_pieces(iter([paragraph]), where, file, opened)

    def _of_text(self, text: str, where: str, file: CorpusFile, done: int) -> Iterator[Block]:
        if not text.strip():
            self.skipped["empty"] += 1
            return
        read = min(1.0, (self._before + done) / self._total)
        for i, piece in enumerate(_cut(iter([text]))):
            yield Block(_checked(piece, where), where, self._documents, i, read)
        self._documents += 1

    def _of_pieces(self, pieces: Iterator[str], where: str, file: CorpusFile, opened: IO) -> Iterator[Block]:
        is_empty = True
        for i, piece in enumerate(_cut(pieces)):
            is_empty = False
            read = min(1.0, (self._before + opened.tell()) / self._total)
            yield Block(_checked(piece, where), where, self._documents, i, read)
        self._documents += not is_empty
        self.skipped["empty"] += is_empty

    def _refuse_changed(self, file: CorpusFile) -> None:
        now = _listed(file.path)
        if now != file:
            size = f"{file.bytes:,} bytes" + (f", now {now.bytes:,}" if now.bytes != file.bytes else "")
            raise NptVizError(
                f"{shown(file.path)} has changed since the scan began ({size}); parts that are finished are kept. Bring the "
                "file back and scan again into the same folder, or scan what it is now into another one"
            )


def _files_of(path: str) -> list[Path]:
    if path == SAMPLE_NAME and not Path(path).exists():
        return [SAMPLE]
    if has_magic(path) and not Path(path).exists():
        found = sorted(Path(each) for each in glob(path, recursive=True) if Path(each).is_file())
        if not found:
            raise NptVizError(
                f"{shown(path)}: no file has such a name; give a pattern that fits one, or a path"
            )
        return found
    where = typed_path(path)
    refuse_special(where)
    if where.is_dir():
        return _files_in(where)
    if not where.exists():
        raise NptVizError(f"{shown(where)}: {absent(where)}; give a file or folder of texts, or a pattern")
    return [where]


def _files_in(folder: Path) -> list[Path]:
    if (folder / "dataset_dict.json").exists():
        splits = _json(folder / "dataset_dict.json").get("splits") or []
        first = f"{folder}/{splits[0]}" if splits else "one of its folders"
        raise NptVizError(
            f"{shown(folder)} holds the splits {', '.join(map(str, splits))} of a dataset; give one of them: {first}"
        )
    if (folder / "state.json").exists():
        return _files_of_dataset(folder)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise NptVizError(
            f"{shown(folder)} has no texts in it; give a folder with files that end in {', '.join(ENDINGS)}, or one that "
            "datasets' save_to_disk wrote"
        )
    return found


def _files_of_dataset(folder: Path) -> list[Path]:
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise NptVizError(
            f"{shown(folder)}: its rows are in an order of their own (indices of an older datasets); load it and save it "
            "again with flatten_indices()"
        )
    names = [str(each.get("filename")) for each in state.get("_data_files") or () if isinstance(each, dict)]
    if not names or any(Path(name).name != name for name in names):
        raise NptVizError(f"{shown(folder)}: its state.json names no data files; save the dataset again")
    return [folder / name for name in names]


def _json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NptVizError(f"{shown(file)} is no JSON object; save the dataset again")
    return content


def _listed(file: Path | CorpusFile) -> CorpusFile:
    path = file.path if isinstance(file, CorpusFile) else file
    try:
        status = path.stat()
        damage = damage_of(path) if status.st_size else None
        # A text may begin like anything; an archive or a picture is told by its first bytes.
        kind = damage or (
            content_kind(path) if status.st_size and path.suffix.lower() in (*PLAIN, *LINES) else None
        )
    except OSError as error:
        raise NptVizError(
            f"{shown(path)} cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    if kind is not None:
        raise NptVizError(
            f"{shown(path)} is {kind.words}, and no text; {kind.advice or 'give text, JSON lines or Parquet'}"
        )
    if path.suffix.lower() not in (*ENDINGS, ARROW):
        raise NptVizError(
            f"{shown(path)}: what it holds is told by its ending, and {path.suffix or 'no ending'} is none of "
            f"{', '.join(ENDINGS)}; rename it"
        )
    return CorpusFile(path, status.st_size, status.st_mtime_ns)


def _decoded(opened: IO, file: CorpusFile) -> Iterator[str]:
    """The text of an open file in pieces."""
    decoder, done = codecs.getincrementaldecoder("utf-8-sig")(), 0
    while True:
        content = opened.read(BLOCK)
        try:
            piece = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            raise _undecodable(file.path, error, done - (len(error.object) - len(content))) from None
        done += len(content)
        if piece:
            yield piece
        if not content:
            return


def _undecodable(path: Path, error: UnicodeDecodeError, before: int, line: int = 0) -> NptVizError:
    where = f"in line {line}" if line else f"at {before + error.start:,}"
    return NptVizError(
        f"{shown(path)} cannot be read as UTF-8 text (byte {error.object[error.start]:#04x} {where}); save it as UTF-8"
    )


def _paragraphs(pieces: Iterator[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        # \r\n: also where a piece ends between the two.
        rest = (rest + piece).replace("\r\n", "\n")
        *whole, rest = re.split(r"\n[ \t]*\n\s*", rest)
        yield from (each for each in whole if each.strip())
    if rest.strip():
        yield rest


def _cut(pieces: Iterator[str]) -> Iterator[str]:
    """A text in blocks of at most BLOCK characters, at white space where there is any; nothing for one that is blank."""
    rest = ""
    for piece in pieces:
        rest += piece
        start = 0
        while len(rest) - start > BLOCK:
            window = rest[start : start + BLOCK]
            at = max(window.rfind("\n"), window.rfind(" "))
            end = start + (at if at > 0 else BLOCK)
            if rest[start:end].strip():
                yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest.strip():
        yield rest


def _checked(text: str, where: str) -> str:
    if lone := re.search("[\ud800-\udfff]", text):
        raise NptVizError(
            f"{where}: has the lone surrogate U+{ord(lone[0]):04X}, which is no text; remove it"
        )
    return text


def _text_of_line(line: bytes, file: CorpusFile, number: int, field: str) -> str:
    where = f"{shown(file.path)}, line {number}"
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _undecodable(file.path, error, 0, number) from None
    except (ValueError, RecursionError):
        raise NptVizError(
            f'{where}: is no JSON; every line must be an object such as {{"{field}": "…"}}'
        ) from None
    if not isinstance(value, dict):
        raise NptVizError(f'{where}: is no JSON object; every line must be one such as {{"{field}": "…"}}')
    if field not in value:
        raise _missing(where, field, list(value))
    return _text(value[field], where, field)


def _text(value: object, where: str, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NptVizError(
            f"{where}: {field!r} is {value!r:.40} and must be text; name the field that holds the text"
        )
    return value


def _missing(where: str, field: str, names: Sequence[str]) -> NptVizError:
    listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    return NptVizError(
        f"{where}: has no field {field!r}, it has {listed or 'none'}; name the one that holds the text"
    )


def _arrow(where: Path):
    """pyarrow; a sentence where it is not installed."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise NptVizError(
            f'{shown(where)}: tables are read with pyarrow, which is not installed; pip install "npt_viz[app]", or give '
            "JSON lines"
        ) from None
    return pyarrow


def _parquet_rows(file: CorpusFile, field: str) -> Iterator[tuple[str, float]]:
    """(text, share of the file that has been read)"""
    pyarrow = _arrow(file.path)
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file.path)
        total = max(1, table.metadata.num_rows)
        _refuse_column(file.path, table.schema_arrow, field, pyarrow)
        done = 0
        for batch in table.iter_batches(batch_size=ROWS, columns=[field]):
            for value in batch.column(0).to_pylist():
                done += 1
                yield value or "", done / total
    except (pyarrow.ArrowException, UnicodeDecodeError, KeyError) as error:
        raise _damaged(file.path, error) from None


def _arrow_rows(file: CorpusFile, field: str) -> Iterator[tuple[str, float]]:
    pyarrow = _arrow(file.path)
    try:
        # Read and not mapped: a file that shrinks under a map ends the process.
        with file.path.open("rb") as opened, pyarrow.ipc.open_stream(opened) as stream:
            _refuse_column(file.path, stream.schema, field, pyarrow)
            column = stream.schema.get_field_index(field)
            for batch in stream:
                for value in batch.column(column).to_pylist():
                    yield value or "", opened.tell() / max(1, file.bytes)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _damaged(file.path, error) from None


def _refuse_column(path: Path, schema, field: str, pyarrow) -> None:
    if field not in schema.names:
        raise _missing(shown(path), field, schema.names)
    kind = schema.field(field).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise NptVizError(
            f"{shown(path)}: the column {field!r} holds {kind} and must hold text; name the one that does"
        )


def _damaged(path: Path, error: Exception) -> NptVizError:
    return NptVizError(
        f"{shown(path)} cannot be read as a table ({str(error).splitlines()[0]:.120}); it may be truncated: copy it again"
    )

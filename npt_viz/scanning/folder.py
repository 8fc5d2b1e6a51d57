"""A scan on disk.

scan-spec.json      what is scanned, sealed when it begins
parts/000000.npz    the summary of each part, written whole when it is done
scan.json           the result, when all are there; numbers.parquet, groups.parquet, worst.parquet are its tables
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.places import absent, shown, typed_path
from npt_viz.results.moments import Moments
from npt_viz.results.scan import Context, Quantity, ScanResult, Worst
from npt_viz.scanning.summary import Summary, from_bytes

SPEC, RESULT, PARTS, LOCK = "scan-spec.json", "scan.json", "parts", ".lock"
FORMAT, VERSION = "npt_viz scan", 1

_ARRAYS = ("lows", "highs", "quantiles", "half_widths", "n_clusters")
_PLAIN = (
    "model", "checkpoint", "mode", "positions", "window", "max_tokens", "n_tokens", "n_sinks", "n_windows", "n_texts",
    "n_parts", "is_finished", "digest",
)  # fmt: skip
_LISTS = ("layers", "corpus", "notes")


class ScanFolder:
    """Where a scan keeps its parts."""

    def __init__(self, folder: str | Path) -> None:
        self.path = typed_path(folder)

    def begin(self, spec: Mapping[str, Any]) -> FileLock:
        """Make the folder, or check that it is this scan's; the lock that has to be held while it is written.

        Raises NptVizError for a folder of another scan, one that another process writes, and one that holds something
        else.
        """
        spec = {"format": FORMAT, "format_version": VERSION, **spec}
        if self.path.exists() and not self.path.is_dir():
            raise NptVizError(f"{shown(self.path)} is a file; choose a folder for the scan")
        is_scan = (self.path / SPEC).exists()
        if not is_scan and self.path.exists() and any(each.name != LOCK for each in self.path.iterdir()):
            raise NptVizError(f"{shown(self.path)} is not empty and no scan; choose another folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NptVizError(
                f"{shown(self.path)} cannot be made ({error.strerror}); choose another folder for the scan"
            ) from None
        lock = FileLock(self.path / LOCK, timeout=1)
        try:
            lock.acquire()
        except Timeout:
            raise NptVizError(
                f"{shown(self.path)} is being written by another process; wait for it, or choose another folder"
            ) from None
        except OSError as error:
            raise NptVizError(
                f"{shown(self.path)} cannot be written ({error.strerror}); choose another folder for the scan"
            ) from None
        try:
            # Under the lock: of two that begin at once the second must not take the place of the first one's spec.
            if (self.path / SPEC).exists() and any((self.path / PARTS).glob("*")):
                self._refuse_another(spec)
            else:
                write_whole(self.path / SPEC, _json(spec), parents=True)
        except BaseException:
            lock.release()
            raise
        return lock

    def _refuse_another(self, spec: Mapping[str, Any]) -> None:
        kept, wanted = self.spec(), json.loads(_json(spec))
        for name in dict.fromkeys([*wanted, *kept]):
            if kept.get(name) != wanted.get(name):
                raise NptVizError(
                    f"{shown(self.path)} holds another scan: its {name} is {kept.get(name)!s:.80} and now it would be "
                    f"{wanted.get(name)!s:.80}; choose another folder, or scan with what is in its {SPEC}"
                )

    def spec(self) -> dict:
        """What is scanned."""
        return _read(self.path / SPEC)

    def part_file(self, number: int) -> Path:
        return self.path / PARTS / f"{number:06d}.npz"

    def has(self, number: int) -> bool:
        return self.part_file(number).exists()

    def write_part(self, number: int, content: bytes) -> None:
        """Keep a part that is done."""
        write_whole(self.part_file(number), content, parents=True)

    def summary(self, number: int, n_quantities: int) -> Summary:
        """A part that was kept."""
        file = self.part_file(number)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise NptVizError(
                f"{shown(file)} cannot be read ({error.strerror}); scan into the same folder again"
            ) from None
        return from_bytes(content, n_quantities, shown(file))

    def summaries(self, result: ScanResult) -> Iterator[Summary]:
        """All parts, one after the other."""
        return (self.summary(number, len(result.quantities)) for number in range(result.n_parts))

    def write_result(self, result: ScanResult) -> None:
        """scan.json, and its tables where pyarrow is there."""
        for name, rows in (
            ("numbers", result.rows()),
            ("groups", result.group_rows()),
            ("worst", result.worst_rows()),
        ):
            _write_table(self.path / f"{name}.parquet", rows)
        write_whole(self.path / RESULT, _json(result_json(result)))


@checked
def read_scan(folder: str | Path) -> ScanResult:
    """The result of a finished scan, from its folder or its scan.json.

    Raises NptVizError where there is none, or none that this npt_viz reads.
    """
    path = typed_path(folder)
    file = path / RESULT if path.is_dir() else path
    if not file.exists():
        if (path / SPEC).exists():
            raise NptVizError(
                f"{shown(path)}: the scan has not finished; the same command goes on with it, without doing a part twice"
            )
        raise NptVizError(
            f"{shown(path)}: {absent(file) if not path.is_dir() else 'holds no scan'}; give a scan's folder"
        )
    content = _read(file)
    if content.get("format") != FORMAT or content.get("format_version") != VERSION:
        raise NptVizError(
            f"{shown(file)}: is no scan that this npt_viz reads (format {content.get('format')!r:.40}, version "
            f"{content.get('format_version')!r:.20}; it reads {FORMAT!r}, version {VERSION}); scan again"
        )
    try:
        return _result_of(content, str(file.parent))
    except (KeyError, TypeError, ValueError, IndexError):
        raise NptVizError(
            f"{shown(file)}: is damaged; remove it and scan again into the same folder"
        ) from None


def result_json(result: ScanResult) -> dict:
    """A result in what JSON has; NaN is null."""
    return {
        "format": FORMAT,
        "format_version": VERSION,
        **{name: getattr(result, name) for name in _PLAIN},
        **{name: list(getattr(result, name)) for name in _LISTS},
        "skipped": dict(result.skipped),
        "quantities": [list(quantity) for quantity in result.quantities],
        "moments": {name: getattr(result.moments, name).tolist() for name in ("n", "mean", "squares")},
        **{name: getattr(result, name).tolist() for name in _ARRAYS},
        "worst": [[list(token) for token in tokens] for tokens in result.worst],
        "contexts": {str(number): context._asdict() for number, context in sorted(result.contexts.items())},
    }


def _result_of(content: dict, folder: str) -> ScanResult:
    arrays: dict[str, Any] = {name: np.array(content[name], float) for name in _ARRAYS}
    moments = content["moments"]
    return ScanResult(
        **{name: content[name] for name in _PLAIN},
        **{name: tuple(content[name]) for name in _LISTS},
        **arrays | {"n_clusters": arrays["n_clusters"].astype(np.int64)},
        skipped=content["skipped"],
        quantities=tuple(Quantity(*each) for each in content["quantities"]),
        moments=Moments(
            np.array(moments["n"], np.int64), np.array(moments["mean"]), np.array(moments["squares"])
        ),
        worst=tuple(tuple(Worst(*token) for token in tokens) for tokens in content["worst"]),
        contexts={
            int(number): Context(
                c["source"], c["start"], tuple(c["ids"]), tuple(c["glyphs"]), c["text"], c["bos"]
            )
            for number, c in content["contexts"].items()
        },
        folder=folder,
    )


def _json(value: object) -> str:
    return json.dumps(_finite(value), ensure_ascii=True, indent=None, separators=(",", ":")) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NptVizError(
            f"{shown(file)}: cannot be read as JSON; choose another folder, or remove it and scan again"
        )
    return content


def _write_table(file: Path, rows: Iterable[dict]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return  # The numbers are in scan.json.
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    write_whole(file, buffer.getvalue().to_pybytes())

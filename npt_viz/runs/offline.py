"""Weights & Biases: the `run-….wandb` of an offline run, also one that is still written, as rows of a log.

Read of it are history, config, the run's name and its command line; summaries, output and files are passed over.
"""

import glob
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from npt_viz.errors import NptVizError
from npt_viz.runs.lines import LONGEST_NAME, Entries
from npt_viz.runs.records import MAGIC, VERSION, fields, records
from npt_viz.runs.steps import STEPS, StepOfRow

SUFFIX = ".wandb"

_HISTORY, _CONFIG, _RUN, _ENVIRONMENT = 2, 5, 17, 26
"""Fields of a Record."""

_KEY, _NESTED_KEY, _VALUE_JSON = 1, 2, 16
"""Fields of an item of a history or of a config."""

_OUTER = "layer_losses"
"""The dict in which the public code logs each layer's losses."""

_FOLDER = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")
"""Date and time; the run's id, with a number behind it where one of that second was there already."""

_FILE = re.compile(r"run-(.+)\.wandb")

_MOST_METADATA = 2**20


class OfflineRun(Entries):
    """The rows of one run: a step's items under their names, nested ones joined by a dot."""

    noun = "record"

    def __init__(self, file: IO[bytes], origin: str, before: tuple[Path, ...] = ()) -> None:
        """before: the same run's earlier parts, oldest first, which it was resumed from."""
        super().__init__()
        self._file, self._origin, self._before = file, origin, before
        self._config: dict = {}
        self._command: list[str] = []
        self._resumed = False

    def __iter__(self) -> Iterator[tuple[str | None, dict]]:
        last = None
        for part in (*self._before, None):
            steps, shift = StepOfRow(), 0
            is_first = True
            for row in self._rows(part):
                counted = row.pop("", None)
                step = steps(row, counted)
                if is_first and step == 0 and self._resumed and last is not None:
                    shift = last + 1
                    self.notes.append(
                        f"The run was resumed after step {last:,} and W&B's offline counter began at 0 again; "
                        f"the steps that follow are counted on from {shift:,}."
                    )
                is_first = False
                if step is not None:
                    last = step + shift
                kept = {name: value for name, value in row.items() if name not in STEPS and name[:1] != "_"}
                if "_runtime" in row and not shift:
                    kept["seconds"] = row["_runtime"]
                yield None, kept if step is None else {"step": step + shift, **kept}
        self._finish()

    def _rows(self, part: Path | None) -> Iterator[dict]:
        if part is None:
            yield from self._rows_of(self._file, self._origin)
            return
        with part.open("rb") as file:
            yield from self._rows_of(file, str(part))

    def _rows_of(self, file: IO[bytes], origin: str) -> Iterator[dict]:
        _check_start(file.read(len(MAGIC + VERSION)), origin)
        for record in records(file, self._damaged):
            self.number += 1
            try:
                for number, content in fields(record):
                    if number == _HISTORY:
                        yield _history(_message(content))
                    elif number == _CONFIG:
                        self._configure(_message(content))
                    elif number == _RUN:
                        self._begin(_message(content))
                    elif number == _ENVIRONMENT:
                        self._environment(_message(content))
            except ValueError:
                self.skip("no message of W&B")

    def _damaged(self, reason: str) -> None:
        self.number += 1
        self.skip(reason)

    def _begin(self, run: bytes) -> None:
        identity = name = ""
        for number, content in fields(run):
            if number == 1:
                identity = _text(content)
            elif number == 8:
                name = _text(content)
            elif number == 4:
                self._configure(_message(content))
            elif number in (18, 24):
                self._resumed = bool(content)
        self.name = (name or self.name or identity)[:LONGEST_NAME]

    def _configure(self, config: bytes) -> None:
        """Take in what was set, and drop what was removed."""
        for number, content in fields(config):
            if number not in (1, 2):
                continue
            path, value = _item(_message(content))
            if not path or path[0] == "_wandb":
                continue
            place = self._config
            for name in path[:-1]:
                inner = place.get(name)
                if not isinstance(inner, dict):
                    # Of a value and a later one inside it the later is what is set.
                    inner = {}
                    if number == 1:
                        place[name] = inner
                place = inner
            if number == 1:
                place[path[-1]] = value
            else:
                place.pop(path[-1], None)

    def _environment(self, environment: bytes) -> None:
        arguments = [_text(content) for number, content in fields(environment) if number == 6]
        self._command = arguments or self._command

    def _finish(self) -> None:
        """Settings of the config, and beside them those that only the command line has."""
        self.config = self._config
        command = _options(self._command or _metadata_arguments(self._origin))
        if not command:
            return
        self.config = {**self._config, "command line": command}
        differing = [
            f"{name} {_short(value)} (config: {_short(self._config[name])})"
            for name, value in command.items()
            if name in self._config and _differ(value, self._config[name])
        ]
        if differing:
            self.notes.append(
                f"The command line and the config say different things: {', '.join(differing[:5])}; "
                "the config's values are taken."
            )


def parts_before(path: Path) -> tuple[Path, ...]:
    """The earlier parts of a run that was resumed: its files in the folders beside, of the same id, oldest first."""
    mine = _started(path)
    if mine is None:
        return ()
    beside = {
        started: each
        for each in path.parent.parent.glob(f"*run-*/{glob.escape(path.name)}")
        if (started := _started(each)) and started < mine and not each.parent.is_symlink() and each.is_file()
    }
    return tuple(beside[started] for started in sorted(beside))


def _started(path: Path) -> tuple[str, int] | None:
    """When W&B began a part, in an order; None where the file does not lie as W&B lays it."""
    folder, file = _FOLDER.fullmatch(path.parent.name), _FILE.fullmatch(path.name)
    if folder is None or file is None:
        return None
    when, rest = folder.groups()
    again = rest.removeprefix(file[1]).removeprefix("-") or "0"
    return (when, int(again)) if rest.startswith(file[1]) and again.isdecimal() else None


def _check_start(start: bytes, origin: str) -> None:
    if not start.startswith(MAGIC):
        raise NptVizError(
            f"{origin}: is no run of Weights & Biases (it does not begin with {MAGIC.decode()}); "
            "copy the run-….wandb again, or give the folder offline-run-…"
        )
    if start != MAGIC + VERSION:
        raise NptVizError(
            f"{origin}: its first bytes name a version of W&B's log that this npt_viz does not know, or are cut off; "
            "copy it again, or export the run as CSV"
        )


def _history(history: bytes) -> dict:
    """Name -> value of a step; the step that W&B counts under an empty name."""
    row: dict = {}
    for number, content in fields(history):
        if number == 2:
            counted = dict(fields(_message(content))).get(1, 0)
            row[""] = counted if isinstance(counted, int) else None
        elif number == 1:
            path, value = _item(_message(content))
            path = path[1:] if len(path) > 1 and path[0] == _OUTER else path
            name = ".".join(path)
            if name and len(name) <= LONGEST_NAME:
                row[name] = value
    return row


def _item(item: bytes) -> tuple[list[str], object]:
    """(name, outermost first, value) of an item; {} stands for what is no number and no text."""
    path, value = list[str](), object
    for number, content in fields(item):
        if number in (_VALUE_JSON, 8):
            value = _json(_text(content))
        elif number in (_NESTED_KEY, _KEY):
            path += [_text(content)] if content else []
        elif number == 5 and isinstance(content, int):
            value = (content >> 1) ^ -(content & 1)
        elif number == 6 and isinstance(content, bytes) and len(content) == 8:
            value = struct.unpack("<d", content)[0]
        elif number == 7:
            value = _text(content)
        elif number == 3:
            value = None
    return path, {} if value is object else value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _message(content: int | bytes) -> bytes:
    if isinstance(content, int):
        raise ValueError("a number in the place of a message")
    return content


def _text(content: int | bytes) -> str:
    return _message(content).decode(errors="replace")


def _options(arguments: list[str]) -> dict[str, object]:
    """["--np_rank", "256", "--robust"] -> {"np_rank": 256, "robust": True}; what is no option is left out."""
    options: dict[str, object] = {}
    name = ""
    for argument in arguments[:1000]:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = _value(value) if equals else True
            name = "" if equals else name
        elif name:
            options[name] = _value(argument)
            name = ""
    return {name: value for name, value in options.items() if name and len(name) <= LONGEST_NAME}


def _value(text: str) -> object:
    value = _json(text)
    return value if isinstance(value, int | float) else text


def _differ(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool | None):
        # A flag without a value says less than the config.
        return False
    return one != other and str(one) != str(other)


def _short(value: object) -> str:
    return f"{value!s:.40}"


def _metadata_arguments(origin: str) -> list[str]:
    """Arguments in wandb-metadata.json, where older versions of W&B keep them."""
    path = Path(origin).parent / "files" / "wandb-metadata.json"
    try:
        if path.stat().st_size > _MOST_METADATA:
            return []
        arguments = json.loads(path.read_bytes())["args"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []
    return [each for each in arguments if isinstance(each, str)] if isinstance(arguments, list) else []

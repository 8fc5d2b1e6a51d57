"""Read a run: our own steps.jsonl, a published training_log.jsonl with the config beside it, or what other tools keep."""

import io
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

import numpy as np

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.identity import content_kind
from npt_viz.places import absent, refuse_special, typed_path
from npt_viz.results.runs import Run
from npt_viz.results.training import Curves
from npt_viz.runs.beside import NOTHING, Beside, beside
from npt_viz.runs.config import Published, published
from npt_viz.runs.exported import SUFFIXES, ExportedRows, is_export
from npt_viz.runs.finding import LOGS, found_runs
from npt_viz.runs.findings import findings_beside
from npt_viz.runs.lines import Entries, Lines
from npt_viz.runs.offline import SUFFIX, OfflineRun, parts_before
from npt_viz.runs.published import FIXED_SET, Columns, is_evaluation
from npt_viz.runs.records import MAGIC
from npt_viz.runs.table import Table, measurement, step_of
from npt_viz.runs.weighted import weighted
from npt_viz.training.log import FORMAT

Source = str | Path | tuple[str, bytes]

RANKS = ("rank", "global_rank", "process_index", "local_rank")
"""Columns that say which of several processes wrote a line."""

_EVALUATED = ("loss", "perplexity", "direct_mlp_loss", "fidelity_loss", "regularization_loss")
"""What evaluation/eval_metrics_layer_i.json measures; num_samples and timestamp are no measurements."""

LOG = f"a {', a '.join(LOGS)}, a run-….wandb or a .csv export"
"""What may be given, for messages."""

_LISTED = 8
"""Runs of a file that a message names."""

_FEW_STEPS, _NEARLY_ALL, _AGAIN_AND_AGAIN = 4, 0.8, 3
"""Steps below which nothing is concluded; the part of the steps that is logged twice; how often steps go back."""


@checked
def read_run(source: Source, run: str | None = None) -> Run:
    """The run in a log file, in a run's folder, or in an uploaded file (its name and its bytes).

    A log is a steps.jsonl, a training_log.jsonl, the run-….wandb of an offline run of Weights & Biases, or a CSV export.
    Lines that cannot be read are skipped and counted. Where steps go backwards, after a resume, what the log says last
    holds. run: its name, in a file of several. Raises NptVizError for a path that is missing, a folder without a log, a
    file that is none, and a file of several runs of which none is named.
    """
    if not isinstance(source, tuple):
        path, *others = logs_of(typed_path(source))
        if others:
            raise NptVizError(f"{source} holds {len(others) + 1} runs; name one of them, for example {path}")
        source = path
    runs = read_runs(source)
    chosen = [each for each in runs if run is None or each.part == run or each.name == run]
    if len(chosen) != 1:
        where = source[0] if isinstance(source, tuple) else source
        names = ", ".join(each.part or each.name for each in runs[:_LISTED])
        more = f" and {len(runs) - _LISTED} more" if len(runs) > _LISTED else ""
        problem = f"holds {len(runs)} runs" if run is None or chosen else f"has no run {run!r:.60}"
        raise NptVizError(f"{where} {problem}; its runs are {names}{more}: give the name of one as `run`")
    return chosen[0]


@checked
def read_runs(source: Source) -> list[Run]:
    """All runs in one log file, or in an uploaded file: one, or those of a CSV export, each with its name as `part`.

    Raises NptVizError as `read_run`.
    """
    if isinstance(source, tuple):
        name, content = source
        return _read(io.BytesIO(content), origin=name, name=Path(name).stem, around=NOTHING)
    path = typed_path(source)
    is_log = path.suffix.lower() not in (SUFFIX, *SUFFIXES)
    around = beside(path) if is_log else NOTHING
    around = around._replace(notes=(*around.notes, *(findings_beside(path) if is_log else ())))
    try:
        if path.stat().st_size and (kind := content_kind(path)) is not None:
            raise NptVizError(f"{path} is {kind.words}, and no log; give {LOG}")
        with path.open("rb") as file:
            return _read(file, origin=str(path), name=_name_of(path), around=around)
    except OSError as error:
        raise NptVizError(
            f"{path} cannot be read ({error.strerror}); check that it is a file you may read"
        ) from error


def logs_of(path: Path) -> list[Path]:
    """The log files that a path means: itself, the one in a run's folder, or all below a folder of runs.

    Raises NptVizError where there is none.
    """
    refuse_special(path)
    if not path.exists():
        raise NptVizError(f"{path}: {absent(path)}; give {LOG}, or the folder of one")
    if not path.is_dir():
        return [path]
    direct = [path / name for name in LOGS if (path / name).is_file()]
    logs = direct[:1] or sorted(found_runs(path))
    if not logs:
        tables = [each for each in path.iterdir() if each.suffix.lower() in SUFFIXES]
        also = f"; of its {len(tables)} CSV files name one, for example {min(tables)}" if tables else ""
        raise NptVizError(
            f"{path} has no {', '.join(LOGS)} or run-….wandb in it{also or '; give the folder of a training run'}"
        )
    return logs


def _name_of(path: Path) -> str:
    return path.parent.name or path.stem if path.name in LOGS else path.stem


def _read(file: IO[bytes], *, origin: str, name: str, around: Beside) -> list[Run]:
    logs, entries = _filled(file, origin, {})
    interleaved = [run for run, log in logs.items() if log.is_interleaved]
    if interleaved:
        file.seek(0)
        logs, entries = _filled(file, origin, dict.fromkeys(interleaved, "other processes"))
    logs = {run: log for run, log in logs.items() if log.tables}
    if not logs:
        first = f"; {entries.noun} {entries.named[0][0]} is {entries.named[0][1]}" if entries.named else ""
        raise NptVizError(
            f"{origin}: none of its {entries.number:,} {entries.noun}s is a step of a training{first}; give {LOG}"
        )
    around = around._replace(config=entries.config or around.config)
    runs = []
    for part, log in logs.items():
        called = part or entries.name or name
        run = log.own(called, origin) if log.is_own else log.of_others(called, origin, around)
        told = [
            *filter(None, [entries.sentence, *entries.notes, *log.order_notes]),
            *around.notes,
            *run.notes,
        ]
        runs.append(replace(run, notes=tuple(told), skipped=entries.skipped, part=part))
    return runs


def _entries(file: IO[bytes], origin: str) -> Entries:
    """The entries of a file, by its first bytes and its name."""
    start = file.read(64)
    file.seek(0)
    if start.startswith(MAGIC) or Path(origin).suffix == SUFFIX:
        return OfflineRun(file, origin, parts_before(Path(origin)))
    return ExportedRows(file, origin) if is_export(origin, start) else Lines(file)


GoingBack = Literal["resumes", "other processes", "nothing"]
"""What it means that steps go backwards: the training was resumed, several processes wrote into one log, or nothing."""


def _filled(
    file: IO[bytes], origin: str, going_back: Mapping[str | None, GoingBack]
) -> tuple[dict[str | None, "_Log"], Entries]:
    """The rows of every run of a file. going_back: of the runs in which it is no resume."""
    entries, logs = _entries(file, origin), dict[str | None, _Log]()
    for run, row in entries:
        if run not in logs:
            logs[run] = _Log("nothing" if entries.is_table else going_back.get(run, "resumes"))
            logs[run].is_own = entries.is_own
        log = logs[run]
        if "format" in row and isinstance(entries, Lines):
            log.begin(row, origin)
        elif not log.take(row):
            entries.skip("no step in it" if step_of(row.get("step")) is None else "no numbers in it")
    return logs, entries


class _Log:
    """The rows of a log as they come."""

    def __init__(self, going_back: GoingBack) -> None:
        self.tables: dict[int | None, Table] = {}
        self._going_back = going_back
        self._trained = array("q")
        """The step of every training line, in the order of the log."""
        self._rank: object = None
        self._other_ranks: dict[str, int] = {}
        """Rank -> its lines, which are left out."""
        self.is_own = False
        self.header: Mapping = {}
        self.columns = Columns()
        self._last: int | None = None
        self._resumes: list[tuple[int, int]] = []

    def begin(self, header: Mapping, origin: str) -> None:
        if header["format"] != FORMAT:
            raise NptVizError(
                f"{origin}: its format is {header['format']!r:.60}; this npt_viz reads {FORMAT!r}"
            )
        self.is_own, self.header = True, header

    def take(self, row: Mapping) -> bool:
        """Keep what a row says; False where it says nothing. Of several ranks the first is kept."""
        if self._is_other_rank(row):
            return True
        if not self.tables and "layer" in row and "total" in row:
            self.is_own = True
        step = step_of(row.get("step"))
        evaluation = not self.is_own and is_evaluation(row)
        if step is None and evaluation and "step" not in row:
            step = self._last
        if step is None:
            return False
        if not evaluation:
            self._trained.append(step)
            self._went_on_to(step)
        return self._keep_own(row, step) if self.is_own else self._keep_published(row, step)

    @property
    def is_interleaved(self) -> bool:
        """Whether the lines look like those of several processes: nearly every step is there more than once.

        A resumed training repeats the steps since its checkpoint, in one stretch for each time; processes that share
        a log go back again and again, by a few steps, or not at all.
        """
        steps, counts = np.unique(np.array(self._trained), return_counts=True)
        n_repeated = int((counts > 1).sum())
        if self.is_own or len(steps) < _FEW_STEPS or n_repeated < _NEARLY_ALL * len(steps):
            return False
        repeats = [
            int(np.searchsorted(steps, before) - np.searchsorted(steps, after)) + 1
            for before, after in self._resumes
        ]
        often_and_short = len(repeats) >= _AGAIN_AND_AGAIN and max(repeats) <= max(2, len(steps) // 4)
        return n_repeated > sum(repeats) or often_and_short

    @property
    def order_notes(self) -> Iterator[str]:
        """What the order of the lines means, a sentence each."""
        if self._other_ranks:
            others = ", ".join(sorted(self._other_ranks))
            yield (
                f"Several processes wrote into this log: the lines of rank {self._rank} are shown, "
                f"{sum(self._other_ranks.values()):,} of rank {others} are left out."
            )
        if self._going_back == "other processes":
            yield (
                "Nearly every step is logged more than once, so several processes seem to have written into this log; "
                "of each step the line that was logged last is shown."
            )
        elif self._resumes and self._going_back == "resumes":
            where = ", ".join(f"from {before:,} back to {after:,}" for before, after in self._resumes[:3])
            more = f" and {len(self._resumes) - 3} times more" if len(self._resumes) > 3 else ""
            yield f"Steps go {where}{more}: the training was resumed there, and what was logged last is shown."

    def _is_other_rank(self, row: Mapping) -> bool:
        rank = next((row[key] for key in RANKS if isinstance(row.get(key), int | str)), None)
        if rank is None:
            return False
        if self._rank is None:
            self._rank = rank
        if rank == self._rank:
            return False
        self._other_ranks[str(rank)] = self._other_ranks.get(str(rank), 0) + 1
        return True

    def own(self, name: str, origin: str) -> Run:
        settings = self.header.get("settings")
        settings = settings if isinstance(settings, dict) else {}
        layers = {
            layer: _with_tokens(table.curves(layer))
            for layer, table in sorted(self.tables.items())
            if len(table)
        }
        named = self.header.get("name")
        return Run(
            name=named if isinstance(named, str) and named.strip() else name,
            origin=origin,
            format="npt_viz",
            layers=layers,
            marks=_within(_own_marks(settings, len(layers)), layers),
            settings=settings,
        )

    def of_others(self, name: str, origin: str, around: Beside) -> Run:
        settings = published(around.config, around.state)
        evaluated = list(self._evaluated(around))
        if not settings.layers and set(self.tables) == {None} and len(around.evaluations) == 1:
            settings = replace(settings, layers=(around.evaluations[0][0],))
        layers = {layer: table.curves(layer) for layer, table in self.tables.items() if len(table)}
        if set(layers) == {None} and len(settings.layers) == 1:
            layers = {settings.layers[0]: replace(layers[None], layer=settings.layers[0])}
        layers = {
            layer: _with_batches(curves, settings)
            for layer, curves in sorted(layers.items(), key=_none_first)
        }
        stages = self.columns.stages
        weighting = weighted(layers, settings, stages)
        marks = tuple(stages[1:]) if stages else settings.curriculum
        if not stages and weighting and weighting.stage_steps:
            marks = ((weighting.stage_steps, "stage 2"), (3 * weighting.stage_steps, "stage 3"))
        return Run(
            name=name,
            origin=origin,
            format="published",
            layers=weighting.layers if weighting else layers,
            marks=_within(marks, layers),
            notes=(*self.columns.notes(), *evaluated, *([weighting.note] if weighting else [])),
            settings=around.config,
        )

    def _evaluated(self, around: Beside) -> Iterator[str]:
        """Take in the evaluations beside the log, and say where they are from."""
        for layer, path, rows in around.evaluations:
            # A log of one layer does not say which; its numbers are under None.
            place = None if set(self.tables) == {None} and len(around.evaluations) == 1 else layer
            kept = 0
            for row in rows:
                step = step_of(row.get("step")) if isinstance(row, Mapping) else None
                if step is None:
                    continue
                named = {FIXED_SET + key: value for key, value in row.items() if key in _EVALUATED}
                values = {column: value for _, column, value in self.columns.read(named, step)}
                self.tables.setdefault(place, Table()).put(step, values)
                kept += 1
            lost = f"; {len(rows) - kept} rows without a step are left out" if kept < len(rows) else ""
            yield (
                f"heldout/{FIXED_SET}… is from evaluation/{path.name}: {kept} evaluations of layer {layer} on a text of its "
                f"own, beside the val_… of the log{lost}."
            )

    def _went_on_to(self, step: int) -> None:
        if self._last is not None and step < self._last:
            self._resumes.append((self._last, step))
            for table in self.tables.values() if self._going_back == "resumes" else ():
                table.forget_from(step)
        self._last = step

    def _keep_own(self, row: Mapping, step: int) -> bool:
        layer = step_of(row.get("layer"))
        values = {name: measurement(value) for name, value in row.items() if name not in ("step", "layer")}
        values = {name: value for name, value in values.items() if value is not None}
        # In a table npt_viz leaves the cell of no layer in particular empty.
        of_none = self._going_back == "nothing" and "layer" not in row
        if (layer is None and not of_none) or not values:
            return False
        self.tables.setdefault(layer, Table()).put(step, values)
        return True

    def _keep_published(self, row: Mapping, step: int) -> bool:
        by_layer: dict[int | None, dict[str, float]] = {}
        for layer, column, value in self.columns.read(row, step):
            by_layer.setdefault(layer, {})[column] = value
        for layer, values in by_layer.items():
            self.tables.setdefault(layer, Table()).put(step, values)
        return bool(by_layer)


def stage_marks(stage_steps: int) -> tuple[tuple[int, str], ...]:
    """The lines of the published recipe: S, the middle of the way, 3S where the weights jump."""
    return ((stage_steps, "stage 2"), (2 * stage_steps, "2S"), (3 * stage_steps, "stage 3"))


def _own_marks(settings: Mapping, n_layers: int) -> tuple[tuple[int, str], ...]:
    """Layers that are trained in order go through the stages one after the other."""
    steps = step_of(settings.get("steps"))
    turns = range(n_layers) if settings.get("stream") == "in_order" and steps else range(1)
    marks = []
    for turn in turns:
        start = turn * (steps or 0)
        if turn:
            marks.append((start, "next layer"))
        if stage_steps := step_of(settings.get("stage_steps")):
            marks += [(start + step, label) for step, label in stage_marks(stage_steps)]
        curriculum = settings.get("curriculum")
        ends = curriculum.get("steps") if isinstance(curriculum, Mapping) else None
        marks += [(start + step, "more tokens") for step in (ends or ()) if step_of(step)]
    return tuple(sorted(marks))


def _within(
    marks: tuple[tuple[int, str], ...], layers: Mapping[int | None, Curves]
) -> tuple[tuple[int, str], ...]:
    last = max(int(curves.steps[-1]) for curves in layers.values())
    return tuple((step, label) for step, label in marks if step <= last)


def _with_tokens(curves: Curves) -> Curves:
    """With the tokens up to each step, where the log says how many a step had."""
    if "n_tokens" not in curves.columns:
        return curves
    tokens = np.cumsum(np.nan_to_num(curves.columns["n_tokens"]))
    return replace(curves, columns={**curves.columns, "tokens": tokens})


def _with_batches(curves: Curves, settings: Published) -> Curves:
    """With the tokens up to each step, and the norms a token, where the config says how many tokens a batch had."""
    columns = dict(curves.columns)
    if settings.step_tokens:
        columns["tokens"] = curves.steps * float(settings.step_tokens)
    if settings.batch_tokens:
        for vector in curves.parts("batch norm"):
            columns[f"rms norm per token/{vector}"] = columns[f"batch norm/{vector}"] / math.sqrt(
                settings.batch_tokens
            )
    return replace(curves, columns=columns)


def _none_first(item: tuple[int | None, Curves]) -> int:
    return -1 if item[0] is None else item[0]

"""An experiment's folder, finished or not, as a result: nothing is computed again."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.experiments.folder import SPEC, Task, read_json, tasks
from npt_viz.experiments.plan import Experiment
from npt_viz.experiments.spec_file import read_experiment_spec
from npt_viz.places import absent, refuse_special, typed_path
from npt_viz.results.experiments import MEASURES, ArmRun, ExperimentResult, Strip
from npt_viz.results.health import Finding
from npt_viz.results.training import Alarm, Curves, History
from npt_viz.training.log import FILE, logged_rows

POINTS = 400
"""Of a curve; evaluations are kept beside them."""


@checked
def read_experiment(folder: str | Path) -> ExperimentResult:
    """Result of an experiment as its folder has it now; safe while it is being written.

    Raises NptVizError where it is no experiment.
    """
    folder = typed_path(folder)
    refuse_special(folder)
    if not folder.exists():
        raise NptVizError(f"{folder}: {absent(folder)}; give a folder that `experiment` wrote")
    if not (folder / SPEC).is_file():
        raise NptVizError(
            f"{folder} is no experiment: it has no {SPEC}; give a folder that `experiment` wrote"
        )
    experiment = read_experiment_spec(folder / SPEC)
    recorded = [(task, read_json(task.result_file)) for task in tasks(experiment, folder)]
    try:
        return _result(experiment, recorded, str(folder))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise NptVizError(
            f"{folder}: a result.json was changed by hand and cannot be read ({error}); delete that run's folder and "
            "run the experiment again"
        ) from None


def _result(experiment: Experiment, recorded: list[tuple[Task, dict]], folder: str) -> ExperimentResult:
    notes = [f"{_name(task)}: {note}" for task, record in recorded for note in record.get("notes", ())]
    unread = {task: _log(task)[2] for task, _ in recorded}
    notes += [f"{_name(task)}: {n:,} lines of {FILE} could not be read" for task, n in unread.items() if n]
    bases = [record["base"] for _, record in recorded if record.get("base")]
    return ExperimentResult(
        name=experiment.name,
        arms={arm.name: arm.sentence for arm in experiment.arms},
        seeds=experiment.seeds,
        reference=experiment.reference,
        steps=experiment.recipe.steps,
        runs=tuple(_run(task, record) for task, record in recorded),
        base=_numbers(bases[0]) if bases else {},
        folder=folder,
        setup=experiment.setup,
        notes=tuple(notes),
    )


def _name(task: Task) -> str:
    return f"{task.arm}, seed {task.seed}"


def _run(task: Task, record: Mapping) -> ArmRun:
    done, curves, _ = _log(task)
    strip, state = record.get("strip"), record.get("state", "waiting")
    return ArmRun(
        arm=task.arm,
        seed=task.seed,
        state="stopped" if state == "running" and task.is_abandoned else state,
        done=done,
        curves=curves,
        final=_final(record) if state == "finished" else {},
        findings=tuple(Finding(**finding) for finding in record.get("findings", ())),
        alarms=tuple(Alarm(**alarm) for alarm in record.get("alarms", ())),
        strip=strip and Strip(tokens=tuple(strip["tokens"]), columns=_arrays(strip["columns"])),
        error=record.get("error"),
        fingerprints={what: str(value) for what, value in record.get("fingerprints", {}).items()},
        checkpoint=str(task.checkpoint) if task.checkpoint.is_dir() else None,
    )


def _final(record: Mapping) -> dict[str, float]:
    layers = [_numbers(layer) for layer in record.get("layers", {}).values()]
    numbers = _numbers(record.get("downstream", {})) | {"seconds": record.get("seconds") or math.nan}
    for measure in ("recovered", "relative_error", "sink_recovered"):
        values = [layer[measure] for layer in layers if math.isfinite(layer.get(measure, math.nan))]
        numbers[measure] = float(np.mean(values)) if values else math.nan
    return {name: numbers.get(name, math.nan) for name in (*MEASURES, "seconds")}


def _numbers(values: Mapping) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def _arrays(columns: Mapping) -> dict[str, np.ndarray]:
    return {
        name: np.array([math.nan if value is None else value for value in values], float)
        for name, values in columns.items()
    }


def _log(task: Task) -> tuple[int, Mapping[int, Curves], int]:
    """(last step, layer -> curves, lines that could not be read)"""
    log = task.folder / FILE
    if not log.is_file():
        return 0, {}, 0
    now = log.stat()
    return _curves(log, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=256)
def _curves(log: Path, changed: int, size: int) -> tuple[int, dict[int, Curves], int]:
    """`_log` of a file, cached until the file changes."""
    steps = History()
    steps.rows, skipped = logged_rows(log)
    done = max((row["step"] for row in steps.rows), default=0)
    return done, {layer: steps.curves(layer, points=POINTS) for layer in steps.layers}, skipped

"""Train the arms of an experiment, one after the other or some of them, each into a folder of its own."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from npt_viz.arguments import checked
from npt_viz.capture.inspection import layers_of
from npt_viz.capture.opening import open_checkpoint
from npt_viz.checkpoint import Checkpoint, save_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.experiments.folder import Task, begin_folder, tasks, texts_of, write_json
from npt_viz.experiments.measuring import fingerprints, measured
from npt_viz.experiments.plan import Experiment
from npt_viz.files import plain_json
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.places import typed_path
from npt_viz.progress import Progress, no_progress
from npt_viz.results.training import Step
from npt_viz.training.data import Corpus, corpus_of
from npt_viz.training.log import FILE, StepLog
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.streams import Captures
from npt_viz.training.trainer import Training


class Event(NamedTuple):
    """One step or the end of one run of an experiment."""

    task: Task
    kind: str
    """step, finished or failed"""
    step: Step | None = None
    number: int = 0
    """Of the task among those of this run."""
    total: int = 0
    error: str | None = None
    """Why it failed, in one sentence."""


@checked
def run_experiment(
    model: BaseModel,
    experiment: Experiment,
    folder: str | Path,
    *,
    texts: Sequence[str] | None = None,
    share: tuple[int, int] = (1, 1),
    progress: Progress = no_progress,
) -> Generator[Event]:
    """Train every run (arm and seed) that is not finished in the folder; close the iterator to stop.

    texts: in place of the experiment's text; kept in the folder.
    share: (i, n) takes the i-th of n parts of the runs: for several processes or machines on one folder. A run that
    another process is training is left to it.
    A run that diverges or cannot begin is recorded as failed, with its sentence, and the others go on.

    Raises NptVizError for a folder of another experiment, a text or a checkpoint that cannot be read, a full disk.
    """
    folder = typed_path(folder)
    if isinstance(experiment.start, AdapterSpec):
        experiment.start.fits(model)
    experiment = begin_folder(folder, experiment, texts)
    mine = tasks(experiment, folder)[share[0] - 1 :: share[1]]
    mine = [task for task in mine if not task.is_finished]
    if not mine:
        return
    corpus = corpus_of(
        model,
        texts_of(experiment),
        seed=experiment.seeds[0],
        tokens=experiment.tokens,
        window=experiment.window,
    )
    encode(model, experiment.prompt)  # Now, and not after an hour of training.
    start, captures = start_of(model, experiment), Captures()
    for number, task in enumerate(mine, 1):
        # Another process may have it: then it is theirs.
        with suppress(Timeout), _locked(task):
            if task.is_finished:
                continue
            for event in _run_task(model, experiment, task, start, corpus, captures, progress):
                yield event._replace(number=number, total=len(mine))


@contextmanager
def _locked(task: Task) -> Generator[None]:
    """Hold the lock of a task. Raises Timeout where another process has it."""
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        lock = task.lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise NptVizError(
            f"{task.folder}: cannot be written ({error.strerror or error}); check the space and the permissions"
        ) from None
    with lock:
        yield


def _run_task(
    model: BaseModel,
    experiment: Experiment,
    task: Task,
    start: AdapterSpec | Checkpoint,
    corpus: Corpus,
    captures: Captures,
    progress: Progress,
) -> Generator[Event]:
    arm, steps, state = experiment.arm(task.arm), [], "stopped"
    about: dict = {"arm": task.arm, "seed": task.seed}
    write_json(task.result_file, about | {"state": "running"})
    try:
        recipe = experiment.recipe_of(arm, task.seed)
        training = Training(model, start, corpus, arm.losses, recipe, progress=progress, captures=captures)
        name = f"{task.arm}, seed {task.seed}"
        with StepLog(task.folder / FILE, name=name, settings=training.described()) as log:
            for step in training:
                log.add(step)
                steps.append(step)
                yield Event(task, "step", step)
        if training.has_ended and (failed := [e.sentence for e in training.endings.values() if e.failed]):
            raise NptVizError("; ".join(failed))
        about["fingerprints"] = fingerprints(training)
        measuring = partial(progress, f"measuring {name}")
        about |= measured(model, experiment, training, corpus, measuring)
        about |= {"layers": {str(n): asdict(evaluation) for n, evaluation in steps[-1].heldout.items()}}
        about |= {"seconds": steps[-1].seconds}
        _save(model, experiment, task, training, steps)
        state = "finished"
    except NptVizError as error:
        state = "failed"
        about["error"] = str(error)
    finally:
        # Also where the iterator is closed: what was learned until then is there, and said to be unfinished.
        about["alarms"] = [asdict(alarm) for step in steps for alarm in step.alarms]
        with suppress(NptVizError):
            write_json(task.result_file, about | {"state": state})
    yield Event(task, state, error=about.get("error"))


def start_of(model: BaseModel, experiment: Experiment) -> AdapterSpec | Checkpoint:
    """Start of every arm; trainings clone it."""
    if isinstance(experiment.start, AdapterSpec):
        return experiment.start
    checkpoint = open_checkpoint(experiment.start, model, experiment.semantics)
    if experiment.layers is None:
        return checkpoint
    return checkpoint.of_layers(layers_of(checkpoint, experiment.layers))


def _save(
    model: BaseModel, experiment: Experiment, task: Task, training: Training, steps: Sequence[Step]
) -> None:
    save_checkpoint(
        task.checkpoint,
        training.adapters,
        model,
        recipe=plain_json(training.described() | {"experiment": experiment.name, "arm": task.arm}),
        figures=plain_json(
            {"heldout": {n: asdict(evaluation) for n, evaluation in steps[-1].heldout.items()}}
        ),
        licence="not stated",
        initial=training.initial,
        overwrite=True,
    )

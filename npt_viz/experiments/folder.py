"""An experiment on disk.

experiment.toml         what it is
text.jsonl              its text, where that is neither bundled nor a file
<arm>/seed-0/           steps.jsonl, result.json, checkpoint/
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from npt_viz.errors import NptVizError
from npt_viz.experiments.plan import Experiment
from npt_viz.experiments.spec_file import experiment_toml, read_experiment_spec
from npt_viz.files import plain_json, write_whole
from npt_viz.places import typed_path
from npt_viz.texts import bundled_texts, texts_from_file

SPEC = "experiment.toml"
TEXT = "text.jsonl"
RESULT = "result.json"
LOCK = ".lock"


class Task(NamedTuple):
    """One training of an experiment."""

    arm: str
    seed: int
    folder: Path

    @property
    def result_file(self) -> Path:
        return self.folder / RESULT

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def is_finished(self) -> bool:
        return read_json(self.result_file).get("state") == "finished"

    @property
    def lock(self) -> FileLock:
        """Lock of the process that trains this run. It waits longer than a reader holds it."""
        return FileLock(self.folder / LOCK, timeout=1)

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that trained this run was killed; False where that cannot be known."""
        if not (self.folder / LOCK).exists():
            return False
        try:
            with self.lock.acquire(timeout=0):
                return True
        except (Timeout, OSError):
            return False


def tasks(experiment: Experiment, folder: Path) -> list[Task]:
    """Runs of an experiment, all arms of one seed before the next seed, so that arms can be compared early."""
    return [
        Task(arm.name, seed, folder / arm.slug / f"seed-{seed}")
        for seed in experiment.seeds
        for arm in experiment.arms
    ]


def begin_folder(folder: Path, experiment: Experiment, texts: Sequence[str] | None = None) -> Experiment:
    """Make the folder, or check that it is this experiment's; returns the experiment as the folder keeps it.

    An experiment of which no run has begun gives way: nobody must delete a folder for a mistyped spec.
    Raises NptVizError for a folder that belongs to another experiment or cannot be written.
    """
    kept = _kept(folder, experiment, texts)
    if folder.exists() and not folder.is_dir():
        raise NptVizError(f"{folder} is a file; choose a folder for the experiment")
    if (folder / SPEC).exists():
        if _is_of(folder, kept, texts):
            return kept
        if any(folder.glob(f"*/*/{RESULT}")):
            raise NptVizError(
                f"{folder} holds another experiment (its {SPEC} or its text differs); choose another folder, or run "
                "that one"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise NptVizError(f"{folder} is not empty and no experiment; choose another folder")
    if texts is not None:
        write_whole(folder / TEXT, _lines(texts), parents=True)
    write_whole(folder / SPEC, experiment_toml(kept), parents=True)
    return kept


def free_folder(folder: Path, experiment: Experiment, texts: Sequence[str] | None = None) -> Path:
    """First of folder, folder-2, … that does not exist or belongs to this experiment."""
    for number in count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if not candidate.exists() or _is_of(candidate, _kept(candidate, experiment, texts), texts):
            return candidate
    raise AssertionError("count never ends")


def _kept(folder: Path, experiment: Experiment, texts: Sequence[str] | None) -> Experiment:
    """The experiment with its text in the folder, where it brings one; paths are whole, to be read from anywhere."""
    if texts is not None:
        experiment = replace(experiment, text=str(folder / TEXT))
    if experiment.text is not None:
        experiment = replace(experiment, text=str(typed_path(experiment.text).absolute()))
    if isinstance(experiment.start, str):
        experiment = replace(experiment, start=str(typed_path(experiment.start).absolute()))
    return experiment


def _is_of(folder: Path, kept: Experiment, texts: Sequence[str] | None) -> bool:
    try:
        if read_experiment_spec(folder / SPEC) != kept:
            return False
        return texts is None or (folder / TEXT).read_text(encoding="utf-8") == _lines(texts)
    except (NptVizError, OSError, UnicodeDecodeError):
        return False


def _lines(texts: Sequence[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def texts_of(experiment: Experiment) -> list[str]:
    """Texts that an experiment trains on. Raises NptVizError for a file that cannot be read."""
    return texts_from_file(experiment.text) if experiment.text else bundled_texts()


def read_json(path: Path) -> dict:
    """JSON object of a file; empty where the file is missing or is no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping) -> None:
    """Write a JSON file, whole or not at all; NaN and infinity, which JSON does not have, are null."""
    write_whole(path, json.dumps(plain_json(value), ensure_ascii=False, indent=1), parents=True)

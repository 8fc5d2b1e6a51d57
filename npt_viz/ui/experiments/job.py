"""An experiment as a job. The page reads the experiment's folder; the job's thread fills it."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.figures.thumbnail import profile
from npt_viz.results.experiments import ExperimentResult
from npt_viz.results.sentences.experiments import experiment as sentence_of
from npt_viz.training.log import RUNS
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.found import shipped_experiments
from npt_viz.ui.shell.job import Job, Slot, State, Work
from npt_viz.ui.shell.recording import Recording


class ExperimentJob(Job):
    """One experiment; arms that are finished stay when it is stopped."""

    def __init__(self, folder: Path, work: Work, *, recording: Recording | None = None) -> None:
        """recording: its entry in the history, written when it ends."""
        super().__init__(work)
        self.folder, self._recording = folder, recording

    def _end(self, state: State, error: str | None = None) -> None:
        from npt_viz.experiments.reading import read_experiment

        if self._recording is not None:
            # Where it ended before it had a folder, what was planned stays.
            with suppress(NptVizError):
                result = read_experiment(self.folder)
                self._recording.put(sentence=sentence_of(result), thumbnail=thumbnail_of(result))
        super()._end(state, error)


def thumbnail_of(result: ExperimentResult) -> str:
    """Arms against the reference, in the first measure."""
    return profile(np.array([comparison.difference for comparison in result.comparisons("recovered")]))


class ExperimentSlot(Slot[ExperimentJob]):
    """The browser's experiment."""

    what, page = "an experiment", "experiments"


def experiment_slot() -> ExperimentSlot:
    """The place of this browser's one job of this kind, shared by all its tabs."""
    return owner().shared("experiment", ExperimentSlot)


def chosen_folder() -> Path:
    """Folder of new experiments: the one that was chosen, by NPT_VIZ_RUNS or by being there, else the workspace."""
    chosen = "NPT_VIZ_RUNS" in os.environ or RUNS.is_dir()
    return RUNS if chosen or not owner().lasts else owner().folder.runs


def saved_experiments() -> list[str]:
    """Experiments in the folder of runs and in the workspace, the newest first, then those that are shipped."""
    from npt_viz.experiments.folder import SPEC

    folders = [path.parent for where in (RUNS, owner().folder.runs) for path in where.glob(f"*/{SPEC}")]
    newest = sorted(folders, key=lambda path: -(path / SPEC).stat().st_mtime)
    return [*map(str, newest), *shipped_experiments()]

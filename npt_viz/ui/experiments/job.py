"""An experiment as a job. The page reads the experiment's folder; the job's thread fills it."""

import os
from pathlib import Path

from npt_viz.training.log import RUNS
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.found import shipped_experiments
from npt_viz.ui.shell.job import Job, Slot, Work


class ExperimentJob(Job):
    """One experiment; arms that are finished stay when it is stopped."""

    def __init__(self, folder: Path, work: Work) -> None:
        super().__init__(work)
        self.folder = folder


class ExperimentSlot(Slot[ExperimentJob]):
    """The browser's experiment."""

    what, page = "an experiment", "experiments"


def experiment_slot() -> ExperimentSlot:
    """Slot of this browser, for all its tabs."""
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

"""The arms of an experiment in several processes: each takes a share of the runs, all write one folder."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.experiments.folder import begin_folder, read_json, tasks
from npt_viz.experiments.plan import Experiment
from npt_viz.places import typed_path
from npt_viz.training.log import FILE, steps_logged

POLL = 1.0
"""Seconds between two looks at the folder."""


def run_in_processes(
    experiment: Experiment, folder: str | Path, n: int, *, texts: Sequence[str] | None = None
) -> Generator[float]:
    """Run what is not finished in n processes; yields the share of all steps done. Closing it ends them.

    Every process loads the base model and has its part of the cores. On a machine with several GPUs start the
    shares by hand instead, each with its own CUDA_VISIBLE_DEVICES (`--share`).
    Raises NptVizError where a process ends before its share is done; what was finished stays.
    """
    folder = typed_path(folder)
    experiment = begin_folder(folder, experiment, texts)
    processes = [_begun(folder, i, n) for i in range(1, n + 1)]
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(POLL)
            yield share_done(experiment, folder)
        for process in processes:
            if process.returncode:
                raise NptVizError(_reason(process, folder))
        yield share_done(experiment, folder)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
            process.stderr.close()


def _reason(process: subprocess.Popen, folder: Path) -> str:
    """Last error line of an ended process, or what to do where it was killed."""
    sentences = [line for line in process.stderr.read().splitlines() if line.startswith("npt_viz: ")]
    if sentences:
        return sentences[-1].removeprefix("npt_viz: ")
    return (
        f"{folder}: a process ended with status {process.returncode} before its runs were done, perhaps for want of "
        "memory; the same command goes on, with fewer --processes it needs less"
    )


def share_done(experiment: Experiment, folder: Path) -> float:
    """Steps taken over steps to take; a run that failed counts as done."""
    runs = tasks(experiment, folder)
    shares = []
    for task in runs:
        state = read_json(task.result_file).get("state")
        over = state in ("finished", "failed")
        shares.append(1.0 if over else min(1.0, steps_logged(task.folder / FILE) / experiment.recipe.steps))
    return sum(shares) / len(runs)


def _begun(folder: Path, i: int, n: int) -> subprocess.Popen:
    threads = max(1, (os.cpu_count() or 1) // n)
    command = [sys.executable, "-m", "npt_viz", "experiment", str(folder), "--share", f"{i}/{n}"]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

"""Runs page: which runs are open, read once as long as their files do not change."""

import time
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.results.runs import Axis, Run
from npt_viz.runs import curves
from npt_viz.ui.cache.opened import located
from npt_viz.ui.cache.uploads import uploaded
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.guarded import guarded_callback, problem
from npt_viz.ui.shell.text import code

MOST_OF_A_FOLDER = 12
"""Runs that are shown of a folder of several, such as an experiment's."""

UPLOAD = "upload: "
"""What stands before the name of an uploaded log."""

CHOSEN = "runs"

UPLOADS = "_runs_uploads"

READ = "_runs_read"
"""Log -> its time and size when it was read."""

keeping.keep(UPLOADS, {})


@dataclass(frozen=True)
class RunsView:
    """Runs, series, columns and axis that the page draws."""

    runs: list[Run]
    series: list[tuple[Run, int | None]]
    """A run and a layer: one colour each."""
    columns: list[str]
    heldout: list[str]
    x: Axis
    smoothing: float
    log: bool

    @property
    def names(self) -> list[str]:
        return [curves.series_name(run, layer) for run, layer in self.series]

    @property
    def main(self) -> str | None:
        """The column that the answer is about."""
        return next(iter([*self.heldout, *self.columns]), None)


def runs_at(path: str) -> list[Run]:
    """Runs of a path; says what is wrong where there are none."""
    from npt_viz.runs import files_of, logs_of

    runs = []
    try:
        if path.startswith(UPLOAD):
            if path not in st.session_state[UPLOADS]:
                raise NptVizError(
                    f"{path.removeprefix(UPLOAD)} was uploaded in another session; upload it again"
                )
            path = st.session_state[UPLOADS][path]
        logs = logs_of(located(path.strip()))
        if len(logs) > MOST_OF_A_FOLDER:
            st.caption(f"{code(path)} holds {len(logs)} runs; the first {MOST_OF_A_FOLDER} are shown.")
        for log in logs[:MOST_OF_A_FOLDER]:
            marks = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files_of(log)]
            st.session_state.setdefault(READ, {})[str(log)] = marks[0]
            of_log = _runs(str(log), tuple(marks))
            if len(of_log) > MOST_OF_A_FOLDER:
                st.caption(
                    f"{code(log.name)} holds {len(of_log)} runs; the first {MOST_OF_A_FOLDER} are shown."
                )
            runs += of_log[:MOST_OF_A_FOLDER]
    except NptVizError as error:
        problem(str(error))
    except OSError as error:
        problem(f"{path} cannot be read ({error.strerror}); check the path and its permissions")
    return runs


GROWING = 180.0
"""Seconds since its last line within which a training may still be going on."""


def is_going_on(runs: list[Run]) -> bool:
    """Whether one of the logs was written a moment ago."""
    return any(time.time() - written / 1e9 < GROWING for written, _ in map(_written, runs))


def has_grown(runs: list[Run]) -> bool:
    """Whether one of the logs is another than the one that was read."""
    read = st.session_state[READ]
    return any(_written(run) != read.get(run.origin, _written(run)) for run in runs)


def _written(run: Run) -> tuple[int, int]:
    """Time and size of a run's log; zeros where it has no file."""
    try:
        status = Path(run.origin).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@st.cache_resource(max_entries=32, show_spinner="Reading the log")
def _runs(log: str, marks: tuple[tuple[int, int], ...]) -> list[Run]:
    """marks: time and size of the files, so that a log that has grown is read again."""
    from npt_viz.runs import read_runs

    return read_runs(log)


@guarded_callback
def take_uploads() -> None:
    """Keep the uploaded files for the session, and choose them."""
    for file in st.session_state["runs_upload"]:
        path = uploaded(file, "log.jsonl")
        label = f"{UPLOAD}{path.name}"
        st.session_state[UPLOADS][label] = str(path)
        if label not in st.session_state[CHOSEN]:
            st.session_state[CHOSEN] = [*st.session_state[CHOSEN], label]


def with_own_names(runs: list[Run]) -> list[Run]:
    """Runs with names of their own: where two are equal, the folder's stands before it or a number behind it."""
    from dataclasses import replace

    renamed: list[Run] = []
    for run in runs:
        name, number = run.name, 2
        if any(other.name == name for other in runs if other is not run):
            folder = Path(run.origin).parent
            name = next((f"{part} / {name}" for part in folder.parts[::-1] if part != name), name)
        base = name
        while any(other.name == name for other in renamed):
            name, number = f"{base} ({number})", number + 1
        renamed.append(replace(run, name=name))
    return renamed

"""An experiment in a thread of its own, for one session. The page reads the experiment's folder; the thread fills it."""

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.model.progress import Progress
from npt_viz.ui.shell.guarded import unforeseen

State = Literal["running", "stopped", "finished", "failed"]

Begin = Callable[[Progress], Generator[float]]
"""Makes the work: a generator of the share done, which may be closed; its progress may raise."""


class _Stopped(Exception):
    """Raised inside the work's progress, when Stop was pressed meanwhile."""


@dataclass(frozen=True)
class Snapshot:
    """Where a job is."""

    state: State
    stage: str
    fraction: float
    """Of all steps of all arms."""
    seconds: float
    error: str | None


class ExperimentJob:
    """One experiment, begun at once."""

    def __init__(self, folder: Path, begin: Begin) -> None:
        self.folder = folder
        self._begin, self._stopping, self._lock = begin, threading.Event(), threading.Lock()
        self._state: State = "running"
        self._stage, self._fraction, self._error = "getting ready", 0.0, None
        self._started, self._ended = time.monotonic(), None
        self._thread = threading.Thread(target=self._run, name="npt_viz experiment", daemon=True)
        self._thread.start()

    @property
    def is_active(self) -> bool:
        return self._state == "running"

    def snapshot(self) -> Snapshot:
        with self._lock:
            seconds = (self._ended or time.monotonic()) - self._started
            return Snapshot(self._state, self._stage, self._fraction, seconds, self._error)

    def stop(self) -> None:
        """After the step that runs; arms that are finished stay."""
        self._stopping.set()

    def wait(self, seconds: float = 60.0) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            work = self._begin(self._progress)
            try:
                for share in work:
                    with self._lock:
                        self._fraction = share
                    if self._stopping.is_set():
                        break
            finally:
                work.close()
            self._end("stopped" if self._stopping.is_set() else "finished")
        except _Stopped:
            self._end("stopped")
        except NptVizError as error:
            self._end("failed", str(error))
        except Exception:
            self._end("failed", unforeseen())

    def _progress(self, stage: str, fraction: float | None = None) -> None:
        with self._lock:
            self._stage = stage if fraction is None else f"{stage}, {fraction:.0%}"
        if self._stopping.is_set():
            raise _Stopped

    def _end(self, state: State, error: str | None = None) -> None:
        with self._lock:
            self._state, self._error, self._ended = state, error, time.monotonic()


class ExperimentSlot:
    """The session's experiment."""

    def __init__(self) -> None:
        self.job: ExperimentJob | None = None

    @property
    def is_active(self) -> bool:
        return self.job is not None and self.job.is_active

    def begin(self, folder: Path, begin: Begin) -> None:
        self.end()
        self.job = ExperimentJob(folder, begin)

    def end(self) -> None:
        if self.job is not None:
            self.job.stop()


@st.cache_resource(scope="session", on_release=lambda slot: slot.end(), show_spinner=False)
def experiment_slot() -> ExperimentSlot:
    """This session's slot; closing the tab ends what runs in it."""
    return ExperimentSlot()

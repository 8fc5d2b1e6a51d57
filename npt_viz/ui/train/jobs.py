"""A training in a thread of its own. The thread never calls Streamlit; the page asks for snapshots.

A job belongs to one session: leaving the page keeps it, closing the tab ends it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.model.fair_lock import FairLock
from npt_viz.model.progress import Progress
from npt_viz.results.training import History
from npt_viz.ui.shell.guarded import unforeseen

if TYPE_CHECKING:
    from npt_viz.checkpoint import Checkpoint
    from npt_viz.training.streams import Captures
    from npt_viz.training.trainer import Training

State = Literal["preparing", "running", "paused", "stopped", "finished", "failed"]


class _Stopped(Exception):
    """Raised inside the preparation, when Stop was pressed meanwhile."""


@dataclass(frozen=True)
class Snapshot:
    """Where a job is."""

    state: State
    stage: str
    """What is being prepared, in words."""
    fraction: float
    """Of the preparation, or of the steps."""
    done: int
    total: int
    seconds: float
    """In the steps so far, pauses left out."""
    error: str | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ("preparing", "running", "paused")


class Job:
    """One training: begun in its thread, then stepped until it is finished, stopped, or fails."""

    def __init__(self, begin: Callable[[Progress], "Training"], *, paused: bool = False) -> None:
        """begin: makes the training; its progress may raise to stop. paused: wait for `go_on` or `one_step`."""
        self.history = History()
        self.training: Training | None = None
        self._begin = begin
        self._changed = threading.Condition()
        self._stopping, self._paused, self._single = False, paused, 0
        self._state: State = "preparing"
        self._stage, self._fraction, self._error = "getting ready", 0.0, None
        # Fair: whoever asks for a checkpoint gets it between two steps.
        self._stepping = FairLock()
        self._thread = threading.Thread(target=self._run, name="npt_viz training", daemon=True)

    def start(self) -> "Job":
        self._thread.start()
        return self

    def pause(self) -> None:
        """Wait after the step that is running."""
        self._tell(paused=True)

    def go_on(self) -> None:
        self._tell(paused=False)

    def one_step(self) -> None:
        """Take one step and wait."""
        with self._changed:
            self._single += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """End after the step that is running; what was learned stays."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait(self, seconds: float = 60.0) -> None:
        """Until the thread has ended."""
        self._thread.join(seconds)

    def snapshot(self) -> Snapshot:
        with self._changed:
            training, last = self.training, self.history.last
            done, total = (training.done, training.total_steps) if training else (0, 0)
            return Snapshot(
                state=self._state,
                stage=self._stage,
                fraction=done / total if total else self._fraction,
                done=done,
                total=total,
                seconds=last.seconds if last else 0.0,
                error=self._error,
            )

    def checkpoint(self) -> "Checkpoint | None":
        """The adapters between two steps, cloned; None while there are none."""
        if self.training is None:
            return None
        with self._stepping:
            return self.training.checkpoint(f"in training, step {self.training.done}")

    def _tell(self, *, paused: bool) -> None:
        with self._changed:
            self._paused = paused
            if self._state in ("running", "paused"):
                self._state = "paused" if paused else "running"
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            training = self._begin(self._progress)
            with self._changed:
                self.training = training
                self._state = "paused" if self._paused else "running"
            while self._may_step():
                with self._stepping:
                    step = next(training, None)
                if step is None:
                    self._end("finished")
                    return
                with self._changed:
                    self.history.add(step)
            self._end("stopped")
        except _Stopped:
            self._end("stopped")
        except NptVizError as error:
            self._end("failed", str(error))
        except Exception:
            gone = self.training is not None and self.training.model.closed
            said = unforeseen()
            released = "the base model was released while it was needed; open it and start again"
            self._end("failed", released if gone else said)

    def _may_step(self) -> bool:
        """Wait while paused; False when stopped."""
        with self._changed:
            while self._paused and not self._stopping and not self._single:
                self._changed.wait()
            self._single = max(0, self._single - 1)
            return not self._stopping

    def _progress(self, stage: str, fraction: float | None = None) -> None:
        with self._changed:
            self._stage, self._fraction = stage, fraction or 0.0
            if self._stopping:
                raise _Stopped

    def _end(self, state: State, error: str | None = None) -> None:
        with self._changed:
            self._state, self._error = state, error


class Slot:
    """The session's job, and what was captured for it."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.captures: Captures | None = None
        self.marks: tuple[tuple[int, str], ...] = ()
        """Steps at which the recipe of the job changes."""

    def begin(self, begin: Callable[[Progress], "Training"], *, paused: bool = False) -> None:
        """End the job that is there, and start another."""
        self.end()
        self.job = Job(begin, paused=paused).start()

    @property
    def is_active(self) -> bool:
        return self.job is not None and self.job.snapshot().is_active

    def end(self) -> None:
        if self.job is not None:
            self.job.stop()


@st.cache_resource(scope="session", on_release=lambda slot: slot.end(), show_spinner=False)
def training_slot() -> Slot:
    """This session's slot; closing the tab releases it."""
    return Slot()

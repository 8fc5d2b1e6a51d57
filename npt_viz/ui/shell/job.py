"""Work in a thread of its own, for one browser. The thread never calls Streamlit; the page asks for snapshots.

A job belongs to the owner of its session: it goes on when the page is left or reloaded and when the last tab is closed,
until it is stopped or nobody has been there for long (npt_viz/ui/cache/owner.py).
"""

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress
from npt_viz.ui.shell.guarded import unforeseen

State = Literal["preparing", "running", "paused", "stopped", "finished", "failed"]

Work = Callable[[Progress], Generator[float]]
"""Makes the steps of some work: a generator that yields the share done, first when it is prepared, and may be closed.
The progress that it is given may raise."""


class _Stopped(Exception):
    """Raised by the progress, when Stop was pressed in a step or in the preparation."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """State of a job at one moment."""

    state: State
    stage: str
    """What is being done, in words."""
    fraction: float
    """Of the preparation, then of the steps."""
    seconds: float
    """Since the start."""
    error: str | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ("preparing", "running", "paused")


class Job:
    """Work that is prepared and stepped in a thread until it is finished, stopped, or fails."""

    def __init__(self, work: Work, *, paused: bool = False) -> None:
        """paused: wait for `go_on` or `one_step` after the preparation."""
        self._work = work
        self._changed = threading.Condition()
        self._stopping, self._paused, self._single = False, paused, 0
        self._state: State = "preparing"
        self._stage, self._fraction, self._error = "getting ready", 0.0, None
        self._started, self._ended = time.monotonic(), None
        self._thread = threading.Thread(target=self._run, name="npt_viz job", daemon=True)

    def start(self) -> "Job":
        """Start the thread; returns the job itself."""
        self._thread.start()
        return self

    @property
    def is_active(self) -> bool:
        return self.snapshot().is_active

    @property
    def line(self) -> str:
        """How far it is, in a few words."""
        now = self.snapshot()
        return f"{now.fraction:.0%}" if now.state == "running" else now.state

    def pause(self) -> None:
        """Wait after the step that is running."""
        self._set_paused(True)

    def go_on(self) -> None:
        """End a pause."""
        self._set_paused(False)

    def one_step(self) -> None:
        """Take one step and wait."""
        with self._changed:
            self._single += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """End after the step that is running."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until the thread has ended."""
        self._thread.join(seconds)

    def snapshot(self) -> Snapshot:
        """The state now."""
        with self._changed:
            return Snapshot(
                state=self._state,
                stage=self._stage,
                fraction=self._fraction,
                seconds=(self._ended or time.monotonic()) - self._started,
                error=self._error,
            )

    def _unforeseen(self) -> str:
        """Sentence for the exception that is being handled, which is no NptVizError."""
        return unforeseen()

    def _run(self) -> None:
        try:
            end, steps = "finished", self._work(self._progress)
            try:
                for share in steps:
                    self._set_running(share)
                    if not self._may_step():
                        end = "stopped"
                        break
            finally:
                steps.close()
            self._end(end)
        except _Stopped:
            self._end("stopped")
        except NptVizError as error:
            self._end("failed", str(error))
        except Exception:
            self._end("failed", self._unforeseen())

    def _set_running(self, share: float) -> None:
        with self._changed:
            self._state, self._fraction = "paused" if self._paused else "running", share

    def _set_paused(self, paused: bool) -> None:
        with self._changed:
            self._paused = paused
            if self._state in ("running", "paused"):
                self._state = "paused" if paused else "running"
            self._changed.notify_all()

    def _may_step(self) -> bool:
        """Wait while paused; False when stopped."""
        with self._changed:
            while self._paused and not self._stopping and not self._single:
                self._changed.wait()
            self._single = max(0, self._single - 1)
            return not self._stopping

    def _progress(self, stage: str, fraction: float | None = None) -> None:
        with self._changed:
            self._stage = stage if fraction is None else f"{stage}, {fraction:.0%}"
            if self._state == "preparing":
                self._fraction = fraction or 0.0
            if self._stopping:
                raise _Stopped

    def _end(self, state: State, error: str | None = None) -> None:
        with self._changed:
            self._state, self._error, self._ended = state, error, time.monotonic()


AnyJob = TypeVar("AnyJob", bound=Job)


class Slot(Generic[AnyJob]):
    """The browser's job of one kind."""

    what = "a job"
    """Its kind, in words."""
    page = ""
    """Name of the page that shows it."""

    def __init__(self) -> None:
        self.job: AnyJob | None = None

    @property
    def is_active(self) -> bool:
        return self.job is not None and self.job.is_active

    def begin(self, job: AnyJob) -> None:
        """Start a job. Raises NptVizError where one runs: another tab may have started it."""
        if self.is_active:
            raise NptVizError(f"{self.what} runs already, perhaps begun in another tab; stop it first")
        self.job = job
        job.start()

    def end(self) -> None:
        """Stop the job, where there is one."""
        if self.job is not None:
            self.job.stop()

    def wait(self, seconds: float) -> None:
        """Wait until the job has ended, where there is one."""
        if self.job is not None:
            self.job.wait(seconds)

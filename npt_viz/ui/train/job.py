"""A training as a job, with its curves, the adapters as they are now, and what the session keeps for it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from npt_viz.model.fair_lock import FairLock
from npt_viz.progress import Progress
from npt_viz.results.training import History
from npt_viz.ui.shell import job

if TYPE_CHECKING:
    from npt_viz.checkpoint import Checkpoint
    from npt_viz.training.saving import Stated
    from npt_viz.training.streams import Captures
    from npt_viz.training.trainer import Training

Begin = Callable[[Progress], "Training"]
"""Makes the training; its progress may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Snapshot(job.Snapshot):
    """State of a training at one moment; `seconds` are those in its steps, pauses left out."""

    done: int
    total: int


class TrainingJob(job.Job):
    """One training: begun in its thread, then stepped; what was learned stays when it ends."""

    def __init__(
        self,
        begin: Begin,
        *,
        paused: bool = False,
        rows: Sequence[dict] = (),
        stated: "Stated | None" = None,
    ) -> None:
        """rows: of the steps before a resumed training, as Step.rows gives them.
        stated: what its checkpoint says of itself: dtype, licence, fault."""
        super().__init__(self._steps, paused=paused)
        self.history = History()
        self.history.rows += rows
        self.training: Training | None = None
        self._stated = stated
        self._begin = begin
        # Fair: whoever asks for a checkpoint gets it between two steps.
        self._stepping = FairLock()

    def snapshot(self) -> Snapshot:
        training, last = self.training, self.history.last
        # Steps that the history has: the training counts one before it is there.
        done, total = (last.number if last else training.done, training.total_steps) if training else (0, 0)
        now: dict[str, Any] = vars(super().snapshot()) | {"seconds": last.seconds if last else 0.0}
        return Snapshot(**now, done=done, total=total)

    @property
    def stated(self) -> "Stated":
        """What a checkpoint of this training says of itself, unless the user says otherwise."""
        from npt_viz.training.saving import Stated

        return self._stated or Stated()

    @property
    def endings(self) -> list[str]:
        """Why nothing more can come of the training, in sentences."""
        return [] if self.training is None else [end.sentence for end in self.training.endings.values()]

    @contextmanager
    def between_steps(self) -> "Iterator[Training]":
        """The training, which takes no step inside the block."""
        assert self.training is not None, "the page offers this only for a training that began"
        with self._stepping:
            yield self.training

    def checkpoint(self) -> "Checkpoint | None":
        """The adapters between two steps, cloned; None while there are none."""
        if self.training is None:
            return None
        with self.between_steps() as training:
            return training.checkpoint(f"in training, step {training.done}")

    def _steps(self, progress: Progress) -> Generator[float]:
        training = self.training = self._begin(progress)
        yield training.done / training.total_steps
        while True:
            with self._stepping:
                step = next(training, None)
            if step is None:
                return
            self.history.add(step)
            yield training.done / training.total_steps

    def _unforeseen(self) -> str:
        sentence = super()._unforeseen()
        if self.training is not None and self.training.model.closed:
            return "the base model was released while it was needed; open it and start again"
        return sentence


class TrainingSlot(job.Slot[TrainingJob]):
    """The session's training, and what was captured for it."""

    def __init__(self) -> None:
        super().__init__()
        self.captures: Captures | None = None


@st.cache_resource(scope="session", on_release=lambda slot: slot.end(), show_spinner=False)
def training_slot() -> TrainingSlot:
    """This session's slot; closing the tab releases it."""
    return TrainingSlot()

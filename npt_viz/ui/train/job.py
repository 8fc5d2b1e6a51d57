"""A training as a job: its curves, the adapters as they are now, and the folder in the workspace that it saves itself in."""

import secrets
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npt_viz.errors import NptVizError
from npt_viz.figures.thumbnail import curve
from npt_viz.model.fair_lock import FairLock
from npt_viz.progress import Progress
from npt_viz.results.sentences import NOTHING, Sentence, said
from npt_viz.results.sentences.training import training as sentence_of
from npt_viz.results.training import History
from npt_viz.ui.cache.owner import Owner, owner
from npt_viz.ui.shell import job
from npt_viz.ui.shell.recording import Recording, recording
from npt_viz.workspace.trainings import write_record

if TYPE_CHECKING:
    from npt_viz.checkpoint import Checkpoint
    from npt_viz.training.saving import Stated
    from npt_viz.training.streams import Captures
    from npt_viz.training.trainer import Training

SAVED_FIRST, SAVED_EVERY = 5.0, 60.0
"""Seconds until a training is saved for the first time, and from then on; in between the time doubles."""

Begin = Callable[[Progress], "Training"]
"""Makes the training; its progress may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Snapshot(job.Snapshot):
    """State of a training at one moment; `seconds` are those in its steps, pauses left out."""

    done: int
    total: int


@dataclass(frozen=True)
class Place:
    """Where in the workspace a training saves itself, and who hears of it."""

    folder: Path
    base: tuple[str, ...]
    """Name, precision and device of its base model."""
    room_for: Callable[[int, Path], None]
    """Makes room for some bytes without touching a folder; raises NptVizError where it cannot."""
    say: Callable[[str], None]
    """Leaves a sentence for the next page that is drawn."""


def place_of(owner: Owner, base: tuple[str, ...], folder: Path | None = None) -> Place:
    """Place of a training; folder: of an earlier one that goes on."""
    # A thread that holds the owner would keep one alive that nobody can be again.
    known = weakref.ref(owner)

    def room_for(n_bytes: int, spare: Path) -> None:
        if (present := known()) is not None:
            present.room_for(n_bytes, spare=[spare])

    def say(sentence: str) -> None:
        if (present := known()) is not None:
            present.say(sentence)

    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return Place(folder or owner.folder.trainings / name, base, room_for, say)


def recorded_at(place: Place) -> Recording | None:
    """Entry of a training in the history; None where that is switched off."""
    folder = str(place.folder)
    return recording("training", title=said("training"), sentence=NOTHING, page="training", folder=folder)


class TrainingJob(job.Job):
    """One training: begun in its thread, then stepped; what was learned stays when it ends."""

    def __init__(
        self,
        begin: Begin,
        *,
        paused: bool = False,
        rows: Sequence[dict] = (),
        stated: "Stated | None" = None,
        place: Place | None = None,
        recording: Recording | None = None,
    ) -> None:
        """rows: of the steps before a resumed training, as Step.rows gives them.
        stated: what its checkpoint says of itself: dtype, licence, fault.
        place: where it saves itself; None saves nothing by itself.
        recording: its entry in the history, as often as it is saved."""
        super().__init__(self._steps, paused=paused)
        self.history = History()
        self.history.rows += rows
        self.training: Training | None = None
        self._stated = stated
        self._begin = begin
        # Fair: whoever asks for a checkpoint gets it between two steps.
        self._stepping = FairLock()
        self.place, self._recording = place, recording
        self._interval, self._saved_at, self._is_unsaved = SAVED_FIRST, time.monotonic(), False

    @property
    def line(self) -> str:
        now = self.snapshot()
        return f"step {now.done:,} of {now.total:,}" if now.total else now.stage

    def snapshot(self) -> Snapshot:
        training, last = self.training, self.history.last
        # Steps that the history has: the training counts one before it is there.
        done, total = (last.number if last else training.done, training.total_steps) if training else (0, 0)
        now: dict[str, Any] = vars(super().snapshot()) | {"seconds": last.seconds if last else 0.0}
        return Snapshot(**now, done=done, total=total)

    @property
    def sentence(self) -> Sentence:
        """What was learned so far; nothing before the training begins."""
        if self.training is None:
            return NOTHING
        recipe = self.training.recipe
        return sentence_of(self.history, positions=recipe.positions, stream=recipe.stream)

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
            if time.monotonic() - self._saved_at > self._interval:
                self.save(self.snapshot().state)
                self._interval = min(2 * self._interval, SAVED_EVERY)
            yield training.done / training.total_steps

    def save(self, state: str) -> None:
        """Save what going on needs in the training's place; says once where that fails, and the training goes on."""
        from npt_viz.training.saving import heldout_figures, save_progress, save_result

        if self.place is None or self.training is None or self.training.model.closed:
            return
        folder = self.place.folder
        try:
            with self.between_steps() as training:
                self.place.room_for(_state_bytes(training), folder)
                save_progress(training, folder, list(self.history.rows), name=label_of(training))
                write_record(
                    folder,
                    label=label_of(training),
                    base=self.place.base,
                    done=training.done,
                    total=training.total_steps,
                    state=state,
                )
                if state == "finished":
                    figures = {"heldout": heldout_figures(training.finished)}
                    result = folder / snapshot_name(training)
                    save_result(training, result, stated=self.stated, figures=figures, overwrite=True)
            self._is_unsaved = False
        except (NptVizError, OSError) as error:
            if not self._is_unsaved:
                self.place.say(
                    f"The training goes on and cannot be saved, so a restart would lose it: {error}"
                )
            self._is_unsaved = True
        self._saved_at = time.monotonic()
        self._record(state)

    def _record(self, state: str) -> None:
        training, last = self.training, self.history.last
        if self._recording is None or training is None or last is None:
            return
        rows = [row for row in list(self.history.rows) if row["layer"] == training.layers[-1]]
        heldout = [row["heldout/recovered"] for row in rows if "heldout/recovered" in row]
        self._recording.put(
            title=f"{label_of(training)}: {state}, step {last.number:,} of {training.total_steps:,}",
            sentence=self.sentence,
            thumbnail=curve(heldout if len(heldout) > 1 else [row["total"] for row in rows]),
        )

    def _may_step(self) -> bool:
        if self._paused:
            self.save("paused")
        return super()._may_step()

    def _end(self, state: job.State, error: str | None = None) -> None:
        self.save(state)
        super()._end(state, error)

    def _unforeseen(self) -> str:
        sentence = super()._unforeseen()
        if self.training is not None and self.training.model.closed:
            return "the base model was released while it was needed; open it and start again"
        return sentence


class TrainingSlot(job.Slot[TrainingJob]):
    """The browser's training, and what was captured for it."""

    what, page = "a training", "training"

    def __init__(self) -> None:
        super().__init__()
        self.captures: Captures | None = None
        self.forgotten: TrainingJob | None = None
        """The training that was reset last, to be brought back."""

    def forget(self) -> None:
        """Stop the training and take it away; `bring_back` undoes the latter."""
        self.end()
        self.forgotten, self.job = self.job, None

    def bring_back(self) -> None:
        """Show the training again that was forgotten last, as it was stopped."""
        if self.job is None:
            self.job, self.forgotten = self.forgotten, None


def training_slot() -> TrainingSlot:
    """The place of this browser's one job of this kind, shared by all its tabs."""
    return owner().shared("training", TrainingSlot)


def label_of(training: "Training") -> str:
    """What is trained, in words."""
    layers = ", ".join(map(str, training.layers))
    losses = ", ".join(name.replace("_", " ") for name in training.objective.active)
    return f"layer{'s' if len(training.layers) > 1 else ''} {layers}, {losses}"


def name_of(training: "Training") -> str:
    """Model, targets and layers, as a name of a folder."""
    layers = "-".join(map(str, training.layers))
    targets = "+".join(next(iter(training.adapters.values())).targets)
    return f"{Path(training.model.name).name}-{targets}-{layers}"


def snapshot_name(training: "Training") -> str:
    """Name of the folder of its adapters as they are now."""
    return f"{name_of(training)}-step-{training.done}"


def _state_bytes(training: "Training") -> int:
    """About what its state takes on disk: adapters, as they began, and two moments; the text's tokens."""
    parameters = (parameter for adapter in training.adapters.values() for parameter in adapter.parameters())
    return 4 * sum(p.numel() * p.element_size() for p in parameters) + 4 * (
        training.corpus.n_train + training.corpus.n_heldout
    )

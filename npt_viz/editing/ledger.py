"""Ledger of permanent updates: the edited model is base + ledger, and the base never changes."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from npt_viz.adapter import LayerAdapter
from npt_viz.arguments import checked
from npt_viz.capture.running import Lane
from npt_viz.editing.base_check import check_base
from npt_viz.editing.changes import edited, edited_lane
from npt_viz.editing.files.exporting import Exported, export
from npt_viz.editing.realised import DTYPES, check_finite, edit_report
from npt_viz.editing.updates import Update, accumulated, merged_base
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.results.editing import EditReport


class Entry(NamedTuple):
    """One applied update."""

    number: int
    """Counts from 1 and is never used again."""
    update: Update

    @property
    def sentence(self) -> str:
        """One line: the rule, the layers and tokens, alpha and the source text."""
        origins = self.update.origins
        layers = self.update.layers
        where = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
        what = str(origins[0]) if origins else where
        more = f" and {len(origins) - 1} more" if len(origins) > 1 else ""
        source = f", from “{_shortened(origins[0].prompt)}”" if origins else ""
        return f"#{self.number}: {what}{more}, α = {self.update.alpha:g}{source}"


class Ledger:
    """Ordered list of the updates on top of an untouched base model.

    Undoing is leaving an entry out, so the base comes back with the same bits and in any order.
    """

    @checked
    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self._entries: tuple[Entry, ...] = ()
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Entries in the order in which they were applied."""
        return self._entries

    @property
    def updates(self) -> tuple[Update, ...]:
        """Updates of the entries, in the same order."""
        return tuple(entry.update for entry in self._entries)

    def moved_to(self, model: BaseModel) -> "Ledger":
        """Copy with the same entries for the same base opened again; NptVizError for another base."""
        for update in self.updates:
            check_base(model, update)
        moved = Ledger(model)
        moved._entries, moved._numbers = self._entries, self._numbers
        return moved

    @classmethod
    def restored(cls, model: BaseModel, updates: Sequence[Update], numbers: Sequence[int] = ()) -> "Ledger":
        """Ledger that was saved: its updates, with the numbers that they had; NptVizError for another base."""
        ledger = cls(model)
        ledger.apply_all(updates)
        if len(numbers) == len(updates):
            entries = map(Entry, numbers, ledger.updates)
            ledger._entries = tuple(entries)
            ledger._numbers = itertools.count(max(numbers, default=0) + 1)
        return ledger

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Make the entries what they were, with their numbers: the opposite of undo and undo_all."""
        self._entries = tuple(entries)

    def apply(self, update: Update) -> Entry:
        """Add an update; NptVizError, with the ledger unchanged, for another base or a weight that is not finite."""
        check_base(self.model, update)
        merged_base([*(known.base for known in self.updates), update.base])
        check_finite(self.model, accumulated([*self.updates, update]), self.model.dtype)
        entry = Entry(next(self._numbers), update)
        self._entries = (*self._entries, entry)
        return entry

    def apply_all(self, updates: Iterable[Update]) -> list[Entry]:
        """Add several updates, or none of them when one is refused."""
        before = self._entries
        try:
            return [self.apply(update) for update in updates]
        except NptVizError:
            self._entries = before
            raise

    def undo(self, number: int | None = None) -> Entry:
        """Remove one entry, the latest by default, and return it."""
        if not self._entries:
            raise NptVizError("the ledger is empty, so there is nothing to undo; apply an update first")
        wanted = self._entries[-1].number if number is None else number
        undone = next((entry for entry in self._entries if entry.number == wanted), None)
        if undone is None:
            known = ", ".join(f"#{entry.number}" for entry in self._entries)
            raise NptVizError(f"the ledger has no entry #{wanted}; choose among {known}")
        self._entries = tuple(entry for entry in self._entries if entry is not undone)
        return undone

    def undo_all(self) -> None:
        """Remove all entries."""
        self._entries = ()

    def lane(self, adapters: Mapping[int, LayerAdapter] | None = None) -> Lane:
        """The edited model as a lane of a forward pass; with adapters, their layers run as NPT layers on it."""
        return edited_lane(self.model, self.updates, adapters)

    def beneath(self) -> AbstractContextManager[None]:
        """Block in which the base is base + ledger, also for what `inspect` reads outside a forward pass."""
        return edited(self.model, self.updates)

    def report(self, dtypes: Sequence[str] = tuple(DTYPES)) -> EditReport:
        """Requested and realised ΔW of the sum of all updates."""
        return edit_report(self.model, self.updates, dtypes)

    def export(self, folder: str | Path, kind: str = "lora") -> Exported:
        """Write the edited model as a LoRA adapter, a merged model or a recipe: see `export`."""
        return export(self.model, self.updates, folder, kind)


def _shortened(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"…{line[1 - length :]}"

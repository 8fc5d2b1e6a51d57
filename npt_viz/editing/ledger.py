"""Which permanent updates an edited model has: base + ledger, and never a changed base."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from npt_viz.adapter import LayerAdapter
from npt_viz.capture.running import Lane
from npt_viz.editing.base_check import check_base
from npt_viz.editing.changes import edited_lane
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
        """What, where, how strong, from which text."""
        origins = self.update.origins
        what = str(origins[0]) if origins else f"layers {', '.join(map(str, self.update.layers))}"
        more = f" and {len(origins) - 1} more" if len(origins) > 1 else ""
        source = f", from “{_shortened(origins[0].prompt)}”" if origins else ""
        return f"#{self.number}: {what}{more}, α = {self.update.alpha:g}{source}"


class Ledger:
    """The updates that an edited model has on top of an untouched base.

    Undoing is leaving an entry out, so the base comes back with the same bits and in any order.
    """

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self._entries: tuple[Entry, ...] = ()
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """In the order in which they were applied."""
        return self._entries

    @property
    def updates(self) -> tuple[Update, ...]:
        return tuple(entry.update for entry in self._entries)

    def moved_to(self, model: BaseModel) -> "Ledger":
        """The same entries on the same base opened anew; refused for another base."""
        for update in self.updates:
            check_base(model, update)
        moved = Ledger(model)
        moved._entries, moved._numbers = self._entries, self._numbers
        return moved

    def apply(self, update: Update) -> Entry:
        """Add an update. Refused, with the ledger as it was, for another base or a weight that is not finite."""
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
        """Take one entry back, the latest by default."""
        if not self._entries:
            raise NptVizError("the ledger is empty, so there is nothing to undo; apply an update first")
        wanted = self._entries[-1].number if number is None else number
        found = next((entry for entry in self._entries if entry.number == wanted), None)
        if found is None:
            known = ", ".join(f"#{entry.number}" for entry in self._entries)
            raise NptVizError(f"the ledger has no entry #{wanted}; choose among {known}")
        self._entries = tuple(entry for entry in self._entries if entry is not found)
        return found

    def undo_all(self) -> None:
        """Back to the base."""
        self._entries = ()

    def lane(self, adapters: Mapping[int, LayerAdapter] | None = None) -> Lane:
        """The edited model as a lane of a forward pass; with adapters, their layers run as NPT layers on it."""
        return edited_lane(self.model, self.updates, adapters)

    def report(self, dtypes: Sequence[str] = tuple(DTYPES)) -> EditReport:
        """Requested against realised ΔW of everything in the ledger."""
        return edit_report(self.model, self.updates, dtypes)

    def export(self, folder: str | Path, kind: str = "lora") -> Exported:
        """Write the edited model as a LoRA adapter, a merged model or a recipe: see `export`."""
        return export(self.model, self.updates, folder, kind)


def _shortened(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"…{line[1 - length :]}"

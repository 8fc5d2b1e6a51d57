"""Ledger of permanent updates: one for each base model and browser, kept as a recipe, never in the shared base."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.ui.cache.opened import Selection, opened_model
from npt_viz.ui.cache.owner import Owner, owner
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.text import plain
from npt_viz.workspace.browser import hashed

if TYPE_CHECKING:
    from npt_viz.editing.ledger import Entry, Ledger
    from npt_viz.editing.updates import Update
    from npt_viz.model.base import BaseModel

LEDGERS, UNDONE = "ledgers", "ledgers_undone"
"""Names under which the owner keeps what a ledger's list shows, so that it can be shown before a model is open, and
what it showed before the last undoing."""

ENDINGS = {LEDGERS: ".npt_edits.json", UNDONE: ".before_undo.json"}
"""Of the recipes on disk."""


class Line(NamedTuple):
    """Entry of a ledger as the list shows it."""

    number: int
    sentence: str


class _Ledgers:
    """The ledgers of one owner that are open, and what stood in them before the last undoing."""

    def __init__(self) -> None:
        self.of_base: dict[str, Ledger] = {}
        """Name of a base model -> its ledger: precision and device do not matter, an update knows its base by weights."""
        self.undone: dict[str, tuple[Entry, ...]] = {}
        """Name of a base model -> its entries before the last undoing."""


def _open_ledgers() -> _Ledgers:
    return owner().shared("_ledgers", _Ledgers)


def ledger(selection: Selection) -> "Ledger":
    """Ledger of this browser for the open base model; a base that was opened anew takes it over."""
    present, ledgers = owner(), _open_ledgers().of_base
    model = opened_model(*selection.base)
    with present.lock:
        found = ledgers.get(selection.model)
        if found is None:
            found = ledgers[selection.model] = _restored(present, selection, model)
        elif found.model is not model:
            try:
                found = found.moved_to(model)
            except NptVizError as error:
                found = _set_aside(present, selection, model, error)
            ledgers[selection.model] = found
    return found


def entries(selection: Selection) -> "tuple[Entry, ...]":
    """Entries of the ledger, where it is open; opens nothing."""
    found = _open_ledgers().of_base.get(selection.model)
    return found.entries if found is not None else ()


def listed(selection: Selection) -> tuple[Line, ...]:
    """What the ledger's list shows, also before its base model is open."""
    return _lines(owner(), selection, LEDGERS)


def apply(selection: Selection, *updates: "Update") -> None:
    """Add updates to the ledger, all or none, and keep it."""
    ledger(selection).apply_all(updates)
    _forget_undone(selection)
    _keep(selection)
    _draw_head()


def undone(selection: Selection) -> int:
    """Number of updates that the last undoing took and that can be brought back."""
    before = _lines(owner(), selection, UNDONE)
    return max(0, len(before) - len(listed(selection)))


def ledger_list(selection: Selection) -> None:
    """List of the applied updates, each with a button that takes it back, and one that undoes the last undoing."""
    rows = listed(selection)
    if not rows:
        st.caption("No permanent update is in the ledger. The page of that name previews one and applies it.")
    for row in rows:
        text, button = st.columns([5, 2], vertical_alignment="center")
        text.caption(plain(row.sentence))
        with button.popover("Undo", type="tertiary"):
            st.button(
                f"Take update #{row.number} back",
                key=f"ledger_undo_{row.number}",
                on_click=_undo,
                args=[selection, row.number],
                type="primary",
                help="The others stay, and the base has had its own bits all along. It can be brought back.",
            )
    if rows:
        st.caption(
            "Permanent update shows base + ledger, and Compare where it is asked to; all other pages show the base, "
            "which never changes."
        )
    if (n := len(rows)) > 1:
        with st.popover("Undo all", type="tertiary"):
            st.button(
                f"Take all {n} updates back",
                key="ledger_undo_all",
                on_click=_undo_all,
                args=[selection],
                type="primary",
            )
    if taken := undone(selection):
        st.button(
            f"Undone: bring {taken} update{'s' * (taken != 1)} back",
            key="ledger_bring_back",
            icon=":material/undo:",
            on_click=_bring_back,
            args=[selection],
            type="tertiary",
        )


@guarded_callback
def _undo(selection: Selection, number: int) -> None:
    # Two quick clicks: the second finds the entry gone.
    if any(row.number == number for row in listed(selection)):
        _undo_some(selection, number)


@guarded_callback
def _undo_all(selection: Selection) -> None:
    _undo_some(selection)


def _undo_some(selection: Selection, number: int | None = None) -> None:
    """Take one entry back, or all."""
    found = ledger(selection)
    if found.entries:
        _open_ledgers().undone[selection.model] = found.entries
        _write(selection, UNDONE, found.entries)
        found.undo_all() if number is None else found.undo(number)
        _keep(selection)


@guarded_callback
def _bring_back(selection: Selection) -> None:
    before = _open_ledgers().undone.get(selection.model) or _undone_on_disk(selection)
    if before:
        ledger(selection).put_back(before)
        _keep(selection)
    _forget_undone(selection)


def _undone_on_disk(selection: Selection) -> "tuple[Entry, ...]":
    """What the ledger held before the last undoing, which an earlier server did; empty where that is gone."""
    from npt_viz.editing.files.recipe import updates_from_recipe
    from npt_viz.editing.ledger import Ledger

    present, model = owner(), opened_model(*selection.base)
    file = _file(present, selection, UNDONE)
    if not file.is_file():
        return ()
    numbers = [row.number for row in _lines(present, selection, UNDONE)]
    return Ledger.restored(model, updates_from_recipe(file, model), numbers).entries


def _forget_undone(selection: Selection) -> None:
    present = owner()
    _open_ledgers().undone.pop(selection.model, None)
    if _lines(present, selection, UNDONE):
        present.put(UNDONE, {**(present.get(UNDONE) or {}), _name(selection): []})
        _file(present, selection, UNDONE).unlink(missing_ok=True)


def _restored(present: Owner, selection: Selection, model: "BaseModel") -> "Ledger":
    """The ledger as it was kept; an empty one, and a sentence, where what was kept cannot be used."""
    from npt_viz.editing.files.recipe import updates_from_recipe
    from npt_viz.editing.ledger import Ledger

    file = _file(present, selection, LEDGERS)
    if not file.is_file():
        return Ledger(model)
    try:
        numbers = [row.number for row in listed(selection)]
        return Ledger.restored(model, updates_from_recipe(file, model), numbers)
    except NptVizError as error:
        return _set_aside(present, selection, model, error)


def _set_aside(present: Owner, selection: Selection, model: "BaseModel", error: NptVizError) -> "Ledger":
    """An empty ledger in place of one that cannot be used; its file stays, under a name that nothing overwrites."""
    from npt_viz.editing.ledger import Ledger

    file = _file(present, selection, LEDGERS)
    with suppress(OSError):
        file.replace(file.with_name(f"{file.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
    present.say(f"The ledger that was kept for {selection.model} cannot be used and was set aside: {error}")
    present.put(LEDGERS, {**(present.get(LEDGERS) or {}), _name(selection): []})
    _draw_head()
    return Ledger(model)


def _draw_head() -> None:
    """The head shows the ledger, and stands outside the fragment in which updates are made and applied."""
    st.session_state["_draw_all"] = True


def _keep(selection: Selection) -> None:
    """Write the ledger, and what its list shows."""
    _write(selection, LEDGERS, ledger(selection).entries)


def _write(selection: Selection, kind: str, entries: "Sequence[Entry]") -> None:
    """Write entries as a recipe, and their lines; says once where the disk does not take it. kind: of ENDINGS."""
    from npt_viz.editing.files.recipe import recipe_text

    present = owner()
    if present.lasts:
        text = recipe_text(opened_model(*selection.base), [entry.update for entry in entries])
        try:
            write_whole(_file(present, selection, kind), text, parents=True)
        except NptVizError as error:
            present.say(f"The ledger is kept only while this server runs. {error}")
    rows = [[entry.number, entry.sentence] for entry in entries]
    present.put(kind, {**(present.get(kind) or {}), _name(selection): rows})


def _lines(present: Owner, selection: Selection, kind: str) -> tuple[Line, ...]:
    kept = (present.get(kind) or {}).get(_name(selection), ())
    return tuple(Line(int(number), str(sentence)) for number, sentence in kept)


def _file(present: Owner, selection: Selection, kind: str) -> Path:
    return present.folder.ledgers / f"{_name(selection)}{ENDINGS[kind]}"


def _name(selection: Selection) -> str:
    """Name of a base's ledger on disk."""
    return hashed(selection.model)[:32]

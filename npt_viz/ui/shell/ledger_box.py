"""Ledger of permanent updates: one for each base model and browser, kept as a recipe, never in the shared base."""

import time
from contextlib import suppress
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

LEDGERS = "ledgers"
"""Name under which the owner keeps what a ledger's list shows, so that it can be shown before a model is open."""

ENDING = ".npt_edits.json"


class Line(NamedTuple):
    """Entry of a ledger as the list shows it."""

    number: int
    sentence: str


class _Ledgers:
    """The ledgers of one owner that are open, and what the last undoing took."""

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
    kept = (owner().get(LEDGERS) or {}).get(_name(selection), ())
    return tuple(Line(int(number), str(sentence)) for number, sentence in kept)


def apply(selection: Selection, *updates: "Update") -> None:
    """Add updates to the ledger, all or none, and keep it."""
    ledger(selection).apply_all(updates)
    _open_ledgers().undone.pop(selection.model, None)
    _keep(selection)
    _draw_head()


def undone(selection: Selection) -> int:
    """Number of updates that the last undoing took and that can be brought back."""
    before = _open_ledgers().undone.get(selection.model)
    return 0 if before is None else len(before) - len(listed(selection))


def ledger_list(selection: Selection) -> None:
    """List of the applied updates, each with a button that takes it back, and one that undoes the last undoing."""
    rows = listed(selection)
    if not rows:
        st.caption("No permanent update is in the ledger. The page of that name previews one and applies it.")
    for row in rows:
        text, button = st.columns([5, 2], vertical_alignment="center")
        text.caption(plain(row.sentence))
        button.button(
            "Undo",
            key=f"ledger_undo_{row.number}",
            on_click=_undo,
            args=[selection, row.number],
            type="tertiary",
            help="Take this update back; the others stay, and the base has had its own bits all along.",
        )
    if rows:
        st.caption(
            "Permanent update shows base + ledger; all other pages show the base, which never changes."
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
        found.undo_all() if number is None else found.undo(number)
        _keep(selection)


@guarded_callback
def _bring_back(selection: Selection) -> None:
    before = _open_ledgers().undone.pop(selection.model, ())
    if before:
        ledger(selection).put_back(before)
        _keep(selection)


def _restored(present: Owner, selection: Selection, model: "BaseModel") -> "Ledger":
    """The ledger as it was kept; an empty one, and a sentence, where what was kept cannot be used."""
    from npt_viz.editing.files.recipe import updates_from_recipe
    from npt_viz.editing.ledger import Ledger

    file = present.folder.ledgers / f"{_name(selection)}{ENDING}"
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

    file = present.folder.ledgers / f"{_name(selection)}{ENDING}"
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
    """Write the ledger, and what its list shows; says once where the disk does not take it."""
    from npt_viz.editing.files.recipe import recipe_text

    present, found = owner(), ledger(selection)
    rows = [[entry.number, entry.sentence] for entry in found.entries]
    if present.lasts:
        file = present.folder.ledgers / f"{_name(selection)}{ENDING}"
        try:
            write_whole(file, recipe_text(found.model, found.updates), parents=True)
        except NptVizError as error:
            present.say(f"The ledger is kept only while this server runs. {error}")
    present.put(LEDGERS, {**(present.get(LEDGERS) or {}), _name(selection): rows})


def _name(selection: Selection) -> str:
    """Name of a base's ledger on disk."""
    return hashed(selection.model)[:32]

"""Ledger of permanent updates: kept with the session, listed on every page, never in the shared base."""

from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.ui.cache.opened import Selection, opened_model
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.text import plain

if TYPE_CHECKING:
    from npt_viz.editing.ledger import Entry, Ledger


def ledger(selection: Selection) -> "Ledger":
    """Ledger of this session for the open base model; a base that was opened anew takes it over."""
    from npt_viz.editing.ledger import Ledger

    ledgers: dict[tuple, Ledger] = st.session_state.setdefault("_ledgers", {})
    model = opened_model(*selection.base)
    opened_ledger = ledgers.get(selection.base)
    if opened_ledger is None or opened_ledger.model is not model:
        ledgers[selection.base] = opened_ledger = (
            Ledger(model) if opened_ledger is None else opened_ledger.moved_to(model)
        )
    return opened_ledger


def entries(selection: Selection) -> "tuple[Entry, ...]":
    """Entries of the ledger; opens nothing."""
    ledger = st.session_state.get("_ledgers", {}).get(selection.base)
    return ledger.entries if ledger is not None else ()


def ledger_in_sidebar(selection: Selection) -> None:
    """List of the applied updates, each with a button that takes it back; nothing while there is none."""
    rows = entries(selection)
    if not rows:
        return
    n = len(rows)
    with st.sidebar.expander(
        f"Edited: {n} update{'s' * (n != 1)}", icon=":material/edit_note:", expanded=True
    ):
        for entry in rows:
            text, button = st.columns([5, 2], vertical_alignment="center")
            text.caption(plain(entry.sentence))
            button.button(
                "Undo",
                key=f"ledger_undo_{entry.number}",
                on_click=_undo,
                args=[selection, entry.number],
                type="tertiary",
                help="Take this update back; the others stay, and the base has had its own bits all along.",
            )
        st.caption(
            "Permanent update shows base + ledger; all other pages show the base, which never changes."
        )
        if n > 1:
            st.button(
                "Undo all", key="ledger_undo_all", on_click=_undo_all, args=[selection], type="tertiary"
            )


@guarded_callback
def _undo(selection: Selection, number: int) -> None:
    # Two quick clicks: the second finds the entry gone.
    if any(entry.number == number for entry in entries(selection)):
        st.session_state["_ledgers"][selection.base].undo(number)


@guarded_callback
def _undo_all(selection: Selection) -> None:
    if entries(selection):
        st.session_state["_ledgers"][selection.base].undo_all()

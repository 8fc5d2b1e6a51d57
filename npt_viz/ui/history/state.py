"""History page: what is looked for, which entry is shown, and what happens to entries."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.question import Question
from npt_viz.results.inspection import Inspection
from npt_viz.results.sentences.tokens import most_moved
from npt_viz.ui.cache.kept import results
from npt_viz.ui.cache.opened import Asked, Selection, stamp
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell import address, keeping, state
from npt_viz.ui.shell.asked import BOS
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.recording import Settings, set_settings, settings
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.view import View
from npt_viz.workspace.entry import OF_A_PROMPT, Entry
from npt_viz.workspace.history import Found
from npt_viz.workspace.numbers import unpacked, unpacked_tables

if TYPE_CHECKING:
    from npt_viz.figures.page import Part

SHOWN = "entry"
"""Parameter of the address that names the entry which is shown."""

PAGE = 25
"""Entries that are listed at once."""

Standing = Literal["same", "changed", "gone"]
"""Of the files that an entry was computed with."""


def found() -> Found:
    """Entries that are looked for, one page of them."""
    session = st.session_state
    text, kind, tag = (session.get(f"history_{name}") or "" for name in ("find", "kind", "tag"))
    asked = text, kind, tag
    if session.get("_history_asked") != asked:
        session["_history_asked"], session["_history_first"] = asked, 0
    history, first = owner().history, session.get("_history_first", 0)
    entries = history.found(text, kind=kind, tag=tag, first=first, most=PAGE)
    if not entries.entries and first:  # They were deleted, perhaps in another tab.
        session["_history_first"] = 0
        entries = history.found(text, kind=kind, tag=tag, most=PAGE)
    return entries


def first() -> int:
    """Place of the first that is listed."""
    return st.session_state.get("_history_first", 0)


def turn(by: int) -> None:
    """List the next entries, or those before."""
    st.session_state["_history_first"] = max(0, first() + by)


def shown(entries: Found) -> Entry | None:
    """The entry that is shown: that of the address, or else the newest that was found."""
    entry = owner().history.entry(st.query_params.get(SHOWN, ""))
    return entry or next(iter(entries.entries), None)


def show(key: str) -> None:
    """Show an entry."""
    st.query_params[SHOWN] = key
    st.session_state.pop("_history_token", None)


def standing(entry: Entry) -> Standing:
    """Whether what it was computed with is still there as it was."""
    if not entry.checkpoint:
        return "same"
    now = stamp(entry.checkpoint)
    if not now:
        return "gone"
    is_same = now == entry.checkpoint_stamp and stamp(entry.model) == entry.model_stamp
    return "same" if is_same else "changed"


def view_of(entry: Entry) -> View:
    """View of an inspection from its kept numbers. Raises NptVizError where they are damaged.

    Where its files are as they were, the pages take these numbers too and compute nothing.
    """
    content = owner().history.numbers(entry.key)
    if content is None:
        raise NptVizError("its numbers went to make room; reopen it to compute them again")
    run, asked, said = unpacked(content), asked_of(entry), values_of(entry)
    if entry.prompt and standing(entry) == "same":
        results().put(("inspection", asked), run)
    layer = said["layer"] if said["layer"] in run.layers else max(run.layers)
    return View(asked, run, layer, _token(run, entry, said["sinks"]), said["metric"], said["sinks"], theme())


def report_of(entries: Sequence[Entry]) -> str:
    """One HTML file with these entries, each from its kept numbers."""
    from npt_viz.figures.page import collection

    return collection("History", [_part(entry) for entry in entries], theme=theme())


def _part(entry: Entry) -> "Part":
    from npt_viz.figures.page import Part

    facts = {
        "kind": entry.kind,
        "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.time)),
        "base model": entry.model,
        "checkpoint": entry.checkpoint,
        "its files": {"same": "as they were", "changed": "changed since", "gone": "gone"}[standing(entry)],
        "prompt": entry.prompt,
        "tags": ", ".join(entry.tags),
        **{name: value for name, value in entry.settings.items() if name not in ("model", "checkpoint")},
    }
    tables, note = {}, ""
    content = None if entry.folder else owner().history.numbers(entry.key)
    try:
        if entry.folder:
            note = f"Its numbers are in {entry.folder}"
        elif content is None:
            note = "Its numbers went to make room."
        elif entry.kind == "inspection":
            tables = {"every number": unpacked(content).to_frame()}
        else:
            tables = {name: pd.DataFrame(rows) for name, rows in unpacked_tables(content).items()}
    except NptVizError as error:
        note = f"{error}."
    return Part(
        title=entry.title,
        about={name: value for name, value in facts.items() if value},
        sentence=entry.sentence,
        picture=entry.thumbnail,
        tables=tables,
        note=note,
    )


def pin(token: int, key: str) -> None:
    """Pin a token of the entry that is shown."""
    st.session_state["_history_token"] = key, token


def _token(run: Inspection, entry: Entry, with_sinks: bool) -> int:
    key, token = st.session_state.get("_history_token", ("", 0))
    if key != entry.key:
        token = values_of(entry)["tok"]
        token = most_moved(run, with_sinks=with_sinks) if token is None else token
    return min(max(token, 0), len(run.pieces) - 1)


def values_of(entry: Entry) -> dict[str, Any]:
    """What its settings say, name by name; the default where they say nothing that can be read."""
    values = {}
    for name, shared in state.SHARED.items():
        values[name] = shared.default
        if name in entry.settings:
            try:
                values[name] = shared.read(entry.settings[name])
            except ValueError:
                continue
    return values


def asked_of(entry: Entry) -> Asked:
    """Question of an inspection, as the pages ask it of what is there now."""
    said = values_of(entry)
    question = Question(
        prompt=entry.prompt,
        layers=tuple(said["on"]) or None,
        mode=said["mode"],
        positions=said["positions"],
        chat=said["chat"],
        bos=BOS[said["bos"]],
    )
    model, checkpoint = said["model"], said["checkpoint"]
    source = Selection(
        model, stamp(model), said["dtype"], said["device"], checkpoint, stamp(checkpoint), said["semantics"]
    )
    return Asked(source, question)


def can_reopen(entry: Entry) -> bool:
    """Whether its page can show it again: not where its prompt was left out or its checkpoint is gone."""
    return (bool(entry.prompt) or entry.kind not in OF_A_PROMPT) and standing(entry) != "gone"


def address_of(entry: Entry) -> dict[str, str]:
    """Address of the page that shows it again, in names and values."""
    # What was not about a prompt leaves the one that is looked at.
    prompt = entry.prompt or st.session_state["prompt"]
    of_prompt = address.of_prompt(prompt, is_private=bool(st.session_state.get("private")))
    if "p" in of_prompt:
        keeping.keep_prompt(of_prompt["p"], prompt)
    more = {entry.kind: entry.folder} if entry.kind in ("experiment", "scan") and entry.folder else {}
    return entry.settings | of_prompt | more


def side_of(entry: Entry) -> dict[str, Any]:
    """The entry as one side of a comparison."""
    values = values_of(entry)
    return {name: values[name] for name in state.SIDE} | {"prompt": entry.prompt}


def pin_as_a(entry: Entry) -> None:
    """Pin an inspection as A."""
    state.pin_as_a(**side_of(entry))


def look_at(entry: Entry) -> None:
    """Look at an inspection, to compare it with A."""
    state.look_at(side_of(entry))
    st.session_state["_history_compares"] = entry.key


@guarded_callback
def restore_choices(entry: Entry) -> None:
    """Make the choices of its page what they were; the page is opened afterwards."""
    keeping.restore(entry.choices)
    st.session_state["_history_opens"] = entry.key


@guarded_callback
def delete(*keys: str) -> None:
    """Delete entries, or all where none are named."""
    owner().history.delete(*keys)
    st.query_params.pop(SHOWN, None)


@guarded_callback
def bring_back() -> None:
    """Undo the last deletion."""
    owner().history.bring_back()


@guarded_callback
def take_tags(key: str, widget: str) -> None:
    """Give an entry the tags that its widget has."""
    owner().history.tag(key, st.session_state[widget])


def take_settings() -> None:
    """Keep what the two switches say."""
    session, before = st.session_state, settings()
    set_settings(
        Settings(
            session.get("history_on", before.is_on), not session.get("history_bare", not before.with_prompts)
        )
    )


def ago(seconds: float) -> str:
    """A time in words: 3 min ago, 5 h ago, 2026-01-31 14:05."""
    minutes = int(max(0.0, time.time() - seconds)) // 60
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 24 * 60:
        return f"{minutes // 60} h ago"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))

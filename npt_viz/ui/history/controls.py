"""History page: search, settings, and the list of entries."""

import base64
import html
from pathlib import Path

import streamlit as st

from npt_viz.results.words import counted
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.history import state
from npt_viz.ui.shell.recording import settings, shortened
from npt_viz.ui.shell.text import plain
from npt_viz.workspace.entry import KINDS, Entry
from npt_viz.workspace.history import MOST, Found

HEIGHT = 560
"""Pixels of the list."""

LISTED = 110
"""Characters of a sentence in the list; the entry that is shown has all of it."""

STANDINGS = {"same": "", "changed": "checkpoint changed since", "gone": "checkpoint is gone"}


def search() -> None:
    """Text, kind and tag to look for; settings; what was deleted, to be brought back."""
    with st.container(key="history_search", horizontal=True, vertical_alignment="center"):
        st.text_input(
            "Find",
            key="history_find",
            persist_state="session",
            placeholder="Find in sentences, prompts, tags, checkpoints",
            label_visibility="collapsed",
            width=330,
        )
        st.selectbox(
            "Kind",
            KINDS,
            index=None,
            key="history_kind",
            persist_state="session",
            placeholder="All kinds",
            label_visibility="collapsed",
            width=140,
        )
        if tags := owner().history.tags():
            st.selectbox(
                "Tag",
                tags,
                index=None,
                key="history_tag",
                persist_state="session",
                placeholder="All tags",
                label_visibility="collapsed",
                width=140,
            )
        with st.popover("Settings", icon=":material/tune:", key="history_settings"):
            _settings()
        if n := owner().history.deleted():
            st.button(
                f"Bring {counted(n, 'deleted entry') if n == 1 else f'{n:,} deleted entries'} back",
                key="history_bring_back",
                icon=":material/undo:",
                type="tertiary",
                on_click=state.bring_back,
            )


def _settings() -> None:
    now = settings()
    st.session_state["history_on"], st.session_state["history_bare"] = now.is_on, not now.with_prompts
    st.toggle(
        "Keep a history",
        key="history_on",
        on_change=state.take_settings,
        help=f"On this machine, in this browser's folder of the workspace: the newest {MOST:,} entries, those with tags longest.",
    )
    st.toggle(
        "Leave prompts out",
        key="history_bare",
        on_change=state.take_settings,
        help="From now on: no prompt, no token and no prediction as text, in titles and sentences neither; numbers and "
        "token indices stay. Such an entry cannot be asked again.",
    )
    with st.popover("Delete the whole history", icon=":material/delete:"):
        st.caption("It can be brought back for an hour, until something else is deleted.")
        st.button("Delete all entries", key="history_delete_all", type="primary", on_click=state.delete)


def entries(found: Found, shown: Entry | None) -> None:
    """The list, newest first, and the way to older ones."""
    with st.container(key="history_list", height=HEIGHT, border=False, gap=None):
        for entry in found.entries:
            _row(entry, is_shown=shown is not None and entry.key == shown.key)
    first, last = state.first() + 1, state.first() + len(found.entries)
    if not found.n:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="history_pages"):
        st.download_button(
            f"Report of these {len(found.entries)}" if len(found.entries) > 1 else "Report of this",
            data=lambda: state.report_of(found.entries),
            file_name="npt_viz_history.html",
            mime="text/html",
            on_click="ignore",
            key="history_report",
            icon=":material/download:",
            help="One HTML file that opens without a network: sentence, settings and numbers of each entry in the list. "
            "A search, a kind or a tag chooses them.",
        )
        if found.n > state.PAGE:
            st.button(
                "Newer", key="history_newer", on_click=state.turn, args=[-state.PAGE], disabled=first == 1
            )
            st.button(
                "Older", key="history_older", on_click=state.turn, args=[state.PAGE], disabled=last >= found.n
            )
            st.caption(f"{first:,} to {last:,} of {found.n:,}")


def _row(entry: Entry, *, is_shown: bool) -> None:
    with st.container(key=f"history_row{'_here' * is_shown}_{entry.key}", gap=None):
        st.button(
            plain(shortened(entry.title, 60)) or entry.kind,
            key=f"history_show_{entry.key}",
            type="tertiary",
            on_click=state.show,
            args=[entry.key],
        )
        st.html(row_html(entry))


def picture(entry: Entry) -> str:
    """Thumbnail as an image: nothing in it can be run or asked for."""
    if not entry.thumbnail:
        return ""
    content = base64.b64encode(entry.thumbnail.encode()).decode()
    return f'<img alt="" src="data:image/svg+xml;base64,{content}">'


def row_html(entry: Entry) -> str:
    """Thumbnail, sentence and facts of an entry, escaped."""
    facts = [
        entry.kind,
        state.ago(entry.time),
        Path(entry.checkpoint).name,
        *(f"#{tag}" for tag in entry.tags),
    ]
    mark = STANDINGS[state.standing(entry)]
    said = " · ".join(html.escape(fact) for fact in facts if fact)
    marked = f' · <b class="mark">{mark}</b>' if mark else ""
    return (
        f'<div class="npt-past"><div class="thumb">{picture(entry)}</div><div>'
        f"<p>{html.escape(shortened(entry.sentence, LISTED))}</p><small>{said}{marked}</small></div></div>"
    )

"""History page: the entry that is shown, from its kept numbers."""

from pathlib import Path

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.results.sentences import Quoted, said
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.history import state
from npt_viz.ui.history.controls import STANDINGS, picture
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.recording import settings
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets import sheet
from npt_viz.ui.widgets.export import about, carry, downloads
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.prompt import view_data
from npt_viz.ui.widgets.tables import table
from npt_viz.ui.widgets.token_view import pin_signal, token_view
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.numbers import unpacked_tables

ROWS = 8
"""Rows of a kept table that are drawn; what is carried away has all."""


def nothing() -> None:
    """What to do where nothing is kept, or nothing was found."""
    with st.container(key="main_figure"):
        if not settings().is_on:
            st.info(
                "The history is switched off; switch it on under Settings.", icon=":material/visibility_off:"
            )
        elif any(st.session_state.get(f"history_{name}") for name in ("find", "kind", "tag")):
            st.info("No entry has all of this. Try fewer words, or all kinds.", icon=":material/search:")
        else:
            st.info(
                "Nothing is kept yet: whatever you inspect, edit, transplant or train appears here.",
                icon=":material/history:",
            )


def one(entry: Entry) -> None:
    """Title, what can be done with it, sentence and numbers."""
    with st.container(key="history_entry", gap="xsmall"):
        st.markdown(f"**{plain(entry.title)}**")
        _facts(entry)
        _actions(entry)
        with st.container(key="answer"):
            sheet.say(markdown(said(Quoted(entry.sentence))))
        with guarded():
            if entry.kind in ("training", "experiment"):
                _folder(entry)
            elif entry.kind == "inspection":
                _inspection(entry)
            else:
                _tables(entry)


def _facts(entry: Entry) -> None:
    standing = state.standing(entry)
    facts = f"{entry.kind}, {state.ago(entry.time)}, {code(Path(entry.checkpoint).name)}"
    if standing != "same":
        facts += (
            f"  \n:orange[:material/warning:] {STANDINGS[standing][0].upper()}{STANDINGS[standing][1:]}: "
        )
        facts += "what stands here are the numbers of then."
    st.caption(facts)


def _actions(entry: Entry) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="history_actions"):
        _reopen(entry)
        if entry.kind == "inspection" and state.can_reopen(entry):
            with st.popover("Compare", icon=":material/compare:", key="history_compare"):
                _compare(entry)
        with st.popover("Tags", icon=":material/label:", key="history_tags"):
            _tags(entry)
        with st.popover("Delete", icon=":material/delete:", key="history_delete"):
            st.caption("It can be brought back for an hour, until something else is deleted.")
            st.button(
                "Delete this entry",
                key="history_delete_one",
                type="primary",
                on_click=state.delete,
                args=[entry.key],
            )


def _reopen(entry: Entry) -> None:
    page = page_file(entry.page or "home")
    if not state.can_reopen(entry) or not page.exists():
        why = "checkpoint is gone" if state.standing(entry) == "gone" else "prompt was left out"
        st.button("Reopen", key="history_reopen", disabled=True, help=f"Its {why}.")
    elif not entry.choices:
        # A link: it can also be copied, and opened in another tab.
        st.page_link(
            page, label="Reopen", icon=":material/open_in_new:", query_params=state.address_of(entry)
        )
    else:
        st.button(
            "Reopen",
            key="history_reopen",
            icon=":material/open_in_new:",
            on_click=state.restore_choices,
            args=[entry],
        )
        if st.session_state.pop("_history_opens", None) == entry.key:
            st.switch_page(page, query_params=state.address_of(entry))


def _compare(entry: Entry) -> None:
    st.button(
        "Pin this as A",
        key="history_pin_as_a",
        icon=":material/push_pin:",
        on_click=state.pin_as_a,
        args=[entry],
        help="Then show another entry and compare it with A, or look at any page: Compare has both.",
    )
    st.button(
        "Compare this with A",
        key="history_compare_with_a",
        icon=":material/arrow_forward:",
        on_click=state.look_at,
        args=[entry],
        disabled=not st.session_state.get("a_side"),
    )
    if st.session_state.pop("_history_compares", None) == entry.key:
        st.switch_page(page_file("compare"))


def _tags(entry: Entry) -> None:
    key = f"history_tags_{entry.key}"
    st.session_state.setdefault(key, list(entry.tags))
    st.multiselect(
        "Tags",
        sorted({*owner().history.tags(), *entry.tags, *st.session_state[key]}),
        key=key,
        accept_new_options=True,
        placeholder="Type a tag",
        on_change=state.take_tags,
        args=[entry.key, key],
    )


def _inspection(entry: Entry) -> None:
    view = state.view_of(entry)
    parts = ("strip", "profile", "map") if len(view.layers) > 1 else ("strip", "profile")
    data = view_data(view, parts, is_editable=False)
    with st.container(key="main_figure"):
        token_view(data, key="history_view", on_pin=lambda token, layer: state.pin(token, entry.key))
    pin_signal(view.token, view.layer, key="history_pin")
    for note in view.run.notes:
        st.caption(plain(note))
    if entry.prompt:
        downloads(view, key="history")
    else:
        carry("history", view.run.to_frame, about=about(view), theme=view.theme)


def _tables(entry: Entry) -> None:
    content = owner().history.numbers(entry.key)
    if content is None:
        raise NptVizError("its numbers went to make room; reopen it to compute them again")
    tables = unpacked_tables(content)
    for i, (label, rows) in enumerate(tables.items()):
        with st.container(key="history_more" if i else "main_figure"):
            st.markdown(f"**{plain(label)}**")
            table(rows[:ROWS], label=label)
            if len(rows) > ROWS:
                st.caption(f"The first {ROWS} of {len(rows):,} rows; Carry away has all.")

    def frame() -> pd.DataFrame:
        return pd.concat([pd.DataFrame(rows).assign(table=label) for label, rows in tables.items()])

    facts = {"what": entry.title, "kind": entry.kind, "checkpoint": entry.checkpoint, "prompt": entry.prompt}
    carry("history", frame, about=facts, theme=theme())


def _folder(entry: Entry) -> None:
    if not Path(entry.folder).is_dir():
        raise NptVizError(f"{entry.folder}: its folder is gone, and its numbers with it")
    with st.container(key="main_figure"):
        st.html(f'<div class="npt-past large">{picture(entry)}</div>')
    st.caption(f"Its numbers are in {code(entry.folder)}")
    if entry.kind == "training":
        st.page_link(
            page_file("runs"),
            label="Its curves on Runs",
            icon=":material/show_chart:",
            query_params={"runs": entry.folder},
        )

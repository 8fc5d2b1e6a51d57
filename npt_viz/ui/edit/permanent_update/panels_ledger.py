"""Permanent update page: exporting and importing the ledger."""

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.ui.cache.opened import opened
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.guarded import guarded, guarded_callback
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets.view import View

KINDS = {
    "lora": "LoRA adapter (peft)",
    "merged": "merged model (transformers)",
    "recipe": "recipe (JSON, to replay)",
}


def ledger(view: View) -> None:
    """Export and import of the ledger."""
    n = len(edits.ledger(view.selection))
    export, bring = st.columns(2, gap="medium")
    with _box(export, "Take the edited model away", ":material/download:", "edit_export_box") as box:
        if box.open:
            with guarded():
                if n:
                    _export(view)
                else:
                    st.caption("The ledger is empty: apply an update first.")
    with _box(bring, "Bring edits back", ":material/upload:", "edit_import_box") as box:
        if box.open:
            with guarded():
                _import(view)


def _box(place, label: str, icon: str, key: str):
    """Expander whose content is drawn while it is open."""
    return place.expander(label, icon=icon, key=key, on_change="rerun")


def _export(view: View) -> None:
    from npt_viz.editing.files.recipe import RECIPE_FILE, recipe_text

    updates = edits.ledger(view.selection)
    st.download_button(
        "Download the recipe",
        data=lambda: recipe_text(updates.model, updates.updates),
        file_name=RECIPE_FILE,
        mime="application/json",
        on_click="ignore",
        key="edit_recipe",
        icon=":material/description:",
    )
    kind = st.selectbox(
        "Or write a folder on the server", list(KINDS), key="edit_kind", format_func=KINDS.__getitem__
    )
    with st.form("edit_export_form", border=False):
        st.text_input("Folder", key="edit_folder", placeholder="exports/my-edit")
        st.form_submit_button("Write", key="edit_write", on_click=_ask_to_write)
    if folder := st.session_state.pop("_edit_write", ""):
        with st.spinner("Writing and checking"):
            exported = updates.export(folder, kind)
        st.success(plain(f"{exported.folder}: " + "; ".join(exported.notes)))


@guarded_callback
def _ask_to_write() -> None:
    # Kept for the run in which it can be done: a button's own True is lost where the page is run anew before it.
    st.session_state["_edit_write"] = st.session_state["edit_folder"].strip()


def _import(view: View) -> None:
    st.caption("A recipe of npt_viz (JSON), or the injection_history.json of a published NPT tool.")
    file = st.file_uploader("File", type=["json"], key="edit_import", label_visibility="collapsed")
    if file is None:
        return
    st.button(
        "Add its edits to the ledger",
        key="edit_import_add",
        on_click=_bring,
        args=[view, file.name, file.getvalue()],
    )
    for note in st.session_state.pop("_edit_notes", ()):
        st.info(plain(note))


@guarded_callback
def _bring(view: View, name: str, content: bytes) -> None:
    st.session_state["_draw_all"] = True  # The head counts the ledger.
    try:
        st.session_state["_edit_notes"] = _added(view, name, content)
    except NptVizError as error:
        st.session_state["_edit_problem"] = str(error)


def _added(view: View, name: str, content: bytes) -> tuple[str, ...]:
    from npt_viz.editing.files.recipe import FORMAT, updates_from_text
    from npt_viz.editing.making.history import updates_from_history_text

    model, checkpoint = opened(view.selection)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise NptVizError(f"{name} is no UTF-8 text; give a recipe or an injection history") from None
    if FORMAT in text:
        updates, notes = updates_from_text(text, name, model), ()
    else:
        updates, notes = updates_from_history_text(text, name, model, checkpoint)
    edits.apply(view.selection, *updates)
    n = len(updates)
    return (f"{n} edit{'s' * (n != 1)} added.", *notes)

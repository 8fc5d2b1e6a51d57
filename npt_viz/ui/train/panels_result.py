"""Panels of the result of a training: a token before and after, other pages, saving, going on."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.places import typed_path
from npt_viz.progress import Progress
from npt_viz.training.log import FILE, logged_rows
from npt_viz.training.settings import line
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Asked, Selection
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.asked import asked, selection
from npt_viz.ui.shell.guarded import guarded, guarded_callback, problem
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.train.job import (
    TrainingJob,
    TrainingSlot,
    label_of,
    name_of,
    place_of,
    recorded_at,
    snapshot_name,
)
from npt_viz.ui.widgets.export import carry
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.tables import Cell
from npt_viz.ui.widgets.tables import table as draw_table
from npt_viz.workspace.trainings import Record, is_running, record_of

if TYPE_CHECKING:
    from npt_viz.training.saving import Stated

ROWS = {
    "recovered": "share of the attention effect recovered",
    "relative_error": "relative error of the modulated MLP",
    "update_norm": "‖ΔW‖ of the gate",
    "gate_change": "relative change of the gate",
}


def result(slot: TrainingSlot) -> None:
    """Draw the buttons for the result: the pinned token before and after, other pages, saving."""
    if slot.job is None or slot.job.training is None:
        return
    job, training = slot.job, slot.job.training
    st.session_state.setdefault("training_folder", _default_folder(job))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.button(
            "Before and after",
            on_click=_look,
            args=[job],
            key="training_look",
            icon=":material/compare:",
            help="What the pinned token says under the adapters as they began and as they are.",
        )
        st.button(
            "Open in the other pages",
            on_click=_open,
            args=[job],
            key="training_open",
            icon=":material/open_in_new:",
            help="As it is now: a snapshot that this session's pages inspect while the training goes on.",
        )
        st.text_input(
            "Save in",
            key="training_folder",
            persist_state="session",
            label_visibility="collapsed",
            width=230,
            help="Folder of the checkpoint.",
        )
        with st.popover("Details", icon=":material/edit_note:"):
            _stated_controls(job)
        st.button("Save", on_click=_save, args=[job], key="training_save", icon=":material/save:")
    if message := st.session_state.pop("training_message", None):
        (st.success if message[0] else problem)(message[1])
    if (table := st.session_state.get("training_pinned")) is not None:
        st.markdown(table[0])
        draw_table(table[1], label="token before and after", code=("before", "after"))
    if not slot.is_active:
        carry(
            "training",
            lambda: pd.DataFrame(job.history.rows),
            about={"training": label_of(training)},
            theme=theme(),
        )


def _stated_controls(job: TrainingJob) -> None:
    """Dtype, licence and fault of the checkpoint; those of the training that this one goes on from, to begin with."""
    from npt_viz.training.saving import STORED

    session = st.session_state
    if session.get("_training_stated_of") is not job:
        session["_training_stated_of"] = job
        session["training_stored"], session["training_licence"] = job.stated.stored, job.stated.licence
        session["training_fault"] = job.stated.fault or ""
    st.selectbox(
        "Weights as",
        STORED,
        key="training_stored",
        help=plain(line("stored")),
        persist_state="session",
    )
    st.text_input("Licence", key="training_licence", help=plain(line("licence")), persist_state="session")
    st.text_input("Fault", key="training_fault", help=plain(line("fault")), persist_state="session")


def _stated_here(job: TrainingJob) -> "Stated":
    from npt_viz.training.saving import Stated

    session = st.session_state
    return Stated(
        stored=session["training_stored"],
        licence=session["training_licence"].strip() or Stated.licence,
        fault=session["training_fault"].strip() or None,
    )


def before_and_after(job: TrainingJob, wanted: Asked, token: int | None) -> tuple[str, list[dict[str, Cell]]]:
    """One token under the adapters as they began and as they are."""
    from npt_viz.capture.inspection import inspect
    from npt_viz.checkpoint import Checkpoint

    training, now = job.training, job.checkpoint()
    assert training is not None and now is not None, "the page offers this only for a training that began"
    began = Checkpoint.from_adapters(training.initial, training.model, "before")
    # The layers that run are those in training, whichever the head has switched on.
    question = replace(wanted.question, layers=None)
    before, after = (inspect(training.model, each, question) for each in (began, now))
    token = len(after.tokens) - 1 if token is None or token >= len(after.tokens) else token
    rows: list[dict[str, Cell]] = [
        {
            "layer": str(layer),
            "what": text,
            "before": number(before.layers[layer].values(column)[token]),
            "after": number(after.layers[layer].values(column)[token]),
        }
        for layer in after.layers
        for column, text in ROWS.items()
    ]
    rows.append(
        {
            "layer": "model",
            "what": "KL(base ‖ NPT), nats",
            "before": number(before.kl[token]),
            "after": number(after.kl[token]),
        }
    )
    first = {name: run.npt_top.glyphs[token][0] for name, run in (("before", before), ("after", after))}
    rows.append({"layer": "model", "what": "most probable next token", **first})
    title = f"Token {token}, {code(after.tokens[token])}, after {training.done:,} steps ({question.mode}):"
    return title, rows


def saved(job: TrainingJob, folder: Path, *, stated: "Stated | None" = None, overwrite: bool = False) -> Path:
    """Write the adapters as they are now as a native checkpoint, the record of the steps, and what `resume` reads.

    stated: what the user says of it; by default what the checkpoint that a resumed training came from says.
    """
    from npt_viz.training.saving import evaluated_as_saved, heldout_figures, save_training

    stated = stated or job.stated
    with job.between_steps() as training:
        figures = {"heldout": heldout_figures(evaluated_as_saved(training, stated.stored))}
        save_training(
            training, folder, list(job.history.rows), stated=stated, figures=figures, overwrite=overwrite
        )
    return folder


def _default_folder(job: TrainingJob) -> str:
    training = job.training
    assert training is not None
    return f"checkpoints/{name_of(training)}-trained"


@guarded_callback
def _look(job: TrainingJob) -> None:
    try:
        st.session_state["training_pinned"] = before_and_after(job, asked(), st.session_state["tok"])
    except NptVizError as error:
        st.session_state["training_message"] = (False, str(error))


@guarded_callback
def _open(job: TrainingJob) -> None:
    assert job.training is not None
    try:
        place = job.place or place_of(owner(), selection().base)
        folder = saved(job, place.folder / snapshot_name(job.training), overwrite=True)
        _open_folder(folder)
    except NptVizError as error:
        st.session_state["training_message"] = (False, str(error))


@guarded_callback
def _save(job: TrainingJob) -> None:
    session = st.session_state
    try:
        path = typed_path(session["training_folder"])
        folder = saved(job, path, stated=_stated_here(job))
    except NptVizError as error:
        session["training_message"] = (False, str(error))
        return
    session["training_saved"] = str(folder)
    session["runs"] = list(dict.fromkeys([*session.get("runs", []), str(folder)]))
    session["training_message"] = (True, plain(f"Saved in {folder}; the Runs page shows its curves."))


class Offer(NamedTuple):
    """Saved training that can go on."""

    file: Path
    """Its state."""
    label: str
    """What it is and how it ended, in words."""
    result: Path | None = None
    """Its checkpoint, where it has one."""


def saved_training(source: Selection, slot: TrainingSlot) -> None:
    """Offer to go on with a saved training: that of this page, of the open checkpoint, or of the workspace."""
    offers = {str(offer.file.parent): offer for offer in _offers(source)}
    if not offers or slot.is_active:
        return
    with guarded():
        st.session_state.setdefault("training_offer", None)
        if st.session_state["training_offer"] not in offers:
            st.session_state["training_offer"] = next(iter(offers))
        if len(offers) > 1:
            st.selectbox(
                "Saved trainings",
                list(offers),
                key="training_offer",
                format_func=lambda folder: offers[folder].label,
            )
        _offer(offers[st.session_state["training_offer"]], source, slot)


def _offer(offer: Offer, source: Selection, slot: TrainingSlot) -> None:
    done, total = _steps_saved(str(offer.file), offer.file.stat().st_mtime_ns)
    st.caption(
        f"{plain(offer.label)} was saved after {done:,} of {total:,} steps. Going on continues it step for step: its "
        "optimisers, its text and their order are in the file."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        wanted = st.number_input(
            "Steps in all",
            done + 1,
            None,
            total if done < total else done + total,
            key=f"training_in_all_{done}_{total}",
            width=150,
            help="More than before gives the learning rate a new schedule.",
        )
        st.button(
            f"Go on from step {done:,}",
            on_click=_resume,
            args=[slot, offer.file, int(wanted), source.base],
            key="training_resume",
            icon=":material/resume:",
        )
        if offer.result is not None:
            st.button(
                "Open",
                on_click=_open_folder,
                args=[offer.result],
                key="training_open_saved",
                icon=":material/open_in_new:",
                help="Its checkpoint, in every page.",
            )


def _offers(source: Selection) -> list[Offer]:
    """Saved trainings, the nearest first; of the workspace, those that ended early before those that finished."""
    from npt_viz.checkpoint.finding import NATIVE_CONFIG
    from npt_viz.training.state import STATE_FILE

    folders = [
        st.session_state.get("training_saved"),
        source.checkpoint and opened.located(source.checkpoint),
    ]
    files = dict.fromkeys(Path(folder) / STATE_FILE for folder in folders if folder)
    offers = [Offer(file, file.parent.name) for file in files if file.is_file()]
    found = []
    for folder in owner().folder.trainings.glob("*"):
        record = record_of(folder)
        if record is None or not (folder / STATE_FILE).is_file() or is_running(folder):
            continue
        result = max(folder.glob(f"*/{NATIVE_CONFIG}"), key=lambda file: file.stat().st_mtime, default=None)
        early = record.done < record.total
        label = f"{record.label}, {_ended(record)} {_ago(record.saved)}"
        offer = Offer(folder / STATE_FILE, label, None if result is None else result.parent)
        found.append((not early, -record.saved, offer))
    return [*offers, *(offer for _, _, offer in sorted(found, key=lambda each: each[:2])[:MOST_OFFERS])]


MOST_OFFERS = 8
"""Trainings of the workspace that are offered."""


def _ended(record: Record) -> str:
    return "interrupted" if record.state in ("running", "paused", "preparing") else record.state


def _ago(moment: float) -> str:
    minutes = max(0, round((time.time() - moment) / 60))
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // 1440} days ago"


@st.cache_data(max_entries=16, show_spinner=False)
def _steps_saved(file: str, changed: int) -> tuple[int, int]:
    from npt_viz.training.state import steps_saved

    return steps_saved(file)


@guarded_callback
def _open_folder(folder: Path) -> None:
    st.session_state.update(checkpoint=str(folder), semantics="", on=[], layer=None)
    st.session_state["training_message"] = (True, plain(f"Open in every page: {folder.name}"))


@guarded_callback
def _resume(slot: TrainingSlot, file: Path, steps: int, base: tuple[str, str, str, str]) -> None:
    from npt_viz.training.saving import stated_in
    from npt_viz.training.state import resumed
    from npt_viz.training.streams import Captures

    model, captures = opened.opened_model(*base), slot.captures or Captures()
    slot.captures = captures
    log = file.with_name(FILE)
    done, _ = _steps_saved(str(file), file.stat().st_mtime_ns)
    rows = [row for row in logged_rows(log)[0] if row["step"] <= done] if log.is_file() else []

    def begin(progress: Progress):
        return resumed(model, file, steps=steps, progress=progress, captures=captures)

    # One of the workspace goes on in its folder; a folder of the user's is not written again.
    folder = file.parent if file.parent.parent == owner().folder.trainings else None
    place = place_of(owner(), base, folder)
    stated, entry = stated_in(file.parent), recorded_at(place)
    slot.begin(TrainingJob(begin, rows=rows, stated=stated, place=place, recording=entry))

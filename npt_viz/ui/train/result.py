"""What a training made, while it runs and after: looked at, opened in the other pages, saved."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.training.log import FILE, save_log
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.cache.uploads import session_folder
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.shell.sidebar import asked
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.train.jobs import Job, Slot

LICENCE = "not stated"

ROWS = {
    "recovered": "share of the attention effect recovered",
    "relative_error": "relative error of the modulated MLP",
    "update_norm": "‖ΔW‖ of the gate",
    "gate_change": "relative change of the gate",
}


def result(slot: Slot) -> None:
    """The pinned token before and after, the other pages, and a folder to save in."""
    if slot.job is None or slot.job.training is None:
        return
    job = slot.job
    st.divider()
    look, use, name, save = st.columns([1.6, 1.6, 2.6, 1.2], vertical_alignment="bottom")
    look.button(
        "Pinned token, before and after",
        on_click=_look,
        args=[job],
        key="training_look",
        icon=":material/compare:",
        width="stretch",
    )
    use.button(
        "Open in the other pages",
        on_click=_open,
        args=[job],
        key="training_open",
        icon=":material/open_in_new:",
        width="stretch",
        help="As it is now: a snapshot that this session's pages inspect while the training goes on.",
    )
    st.session_state.setdefault("training_folder", _default_folder(job))
    name.text_input("Save in", key="training_folder", persist_state="session")
    save.button(
        "Save", on_click=_save, args=[job], key="training_save", icon=":material/save:", width="stretch"
    )
    if said := st.session_state.pop("training_said", None):
        (st.success if said[0] else problem)(said[1])
    if (table := st.session_state.get("training_pinned")) is not None:
        st.markdown(table[0])
        st.dataframe(table[1], hide_index=True, key="training_pinned_table")


def before_and_after(job: Job, wanted: Asked, token: int | None) -> tuple[str, pd.DataFrame]:
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
    rows = [
        {
            "layer": str(layer),
            "": text,
            "before": number(before.layers[layer].values(column)[token]),
            "after": number(after.layers[layer].values(column)[token]),
        }
        for layer in after.layers
        for column, text in ROWS.items()
    ]
    rows.append(
        {
            "layer": "model",
            "": "KL(base ‖ NPT), nats",
            "before": number(before.kl[token]),
            "after": number(after.kl[token]),
        }
    )
    first = {name: run.npt_top.glyphs[token][0] for name, run in (("before", before), ("after", after))}
    rows.append({"layer": "model", "": "most probable next token", **first})
    title = f"Token {token}, {code(after.tokens[token])}, after {training.done:,} steps ({wanted.mode}):"
    return title, pd.DataFrame(rows)


def saved(job: Job, folder: Path, *, overwrite: bool = False) -> Path:
    """Write the adapters as they are now as a native checkpoint."""
    from npt_viz.checkpoint import save_checkpoint

    training, now = job.training, job.checkpoint()
    assert training is not None and now is not None, "the page offers this only for a training that began"
    return save_checkpoint(
        folder,
        {layer: now.adapter(layer) for layer in now.layers},
        training.model,
        recipe=training.described(),
        figures={"heldout": _heldout(job)},
        licence=LICENCE,
        initial=training.initial,
        overwrite=overwrite,
    )


def _heldout(job: Job) -> dict:
    """Layer -> its last evaluation; None for what is no number."""
    found = {}
    for row in job.history.rows:
        if "heldout/recovered" in row:
            numbers = {
                key.removeprefix("heldout/"): value
                for key, value in row.items()
                if key.startswith("heldout/")
            }
            found[str(row["layer"])] = {
                key: None if math.isnan(value) else value for key, value in numbers.items()
            } | {"step": row["step"]}
    return found


def _default_folder(job: Job) -> str:
    training = job.training
    assert training is not None
    layers = "-".join(map(str, training.layers))
    targets = "+".join(next(iter(training.adapters.values())).targets)
    return f"checkpoints/{Path(training.model.name).name}-{targets}-{layers}-trained"


def _look(job: Job) -> None:
    try:
        st.session_state["training_pinned"] = before_and_after(job, asked(), st.session_state["tok"])
    except NptVizError as error:
        st.session_state["training_said"] = (False, str(error))


def _open(job: Job) -> None:
    assert job.training is not None
    try:
        folder = saved(job, session_folder() / f"training-step-{job.training.done}", overwrite=True)
        st.session_state.update(checkpoint=str(folder), semantics="", on=[], layer=None)
        st.session_state["training_said"] = (True, plain(f"Open in every page: {folder.name}"))
    except NptVizError as error:
        st.session_state["training_said"] = (False, str(error))


def _save(job: Job) -> None:
    try:
        path = Path(st.session_state["training_folder"].strip()).expanduser()
        folder = saved(job, path)
        save_log(folder / FILE, list(job.history.rows), name=folder.name, settings=job.training.described())
        here = st.session_state
        here["runs"] = list(dict.fromkeys([*here.get("runs", []), str(folder)]))
        here["training_said"] = (True, plain(f"Saved in {folder}; the Runs page shows its curves."))
    except NptVizError as error:
        st.session_state["training_said"] = (False, str(error))

"""Controls of the Scan page, and the scan they set, checked before it starts."""

import hashlib
from pathlib import Path

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.question import MODES, POSITIONS
from npt_viz.results.sentences import Quoted, said
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.scan.job import Plan, ScanJob, ScanSlot, saved_scans
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.guarded import guarded_callback, problem
from npt_viz.ui.shell.recording import recording
from npt_viz.ui.shell.text import plain

DEFAULTS = {
    "scan_corpus": "sample",
    "scan_field": "text",
    "scan_split": "file",
    "scan_tokens": 20_000,
    "scan_window": 512,
    "scan_predict": True,
    "scan_mode": "local",
    "scan_positions": "deployed",
}
keeping.keep_all(DEFAULTS)

SPLITS = {"file": "one text a file", "blank lines": "one text a paragraph"}


def chosen_scan(slot: ScanSlot) -> Path | None:
    """Draw the list of scans; the folder of the one that is shown: a new one, what was chosen, or the newest."""
    session, folders = st.session_state, saved_scans()
    if slot.job is not None and session.get("_scan_job") is not slot.job:
        # A new scan shows itself; afterwards the choice is the user's.
        session["_scan_job"], session["scan"] = slot.job, str(slot.job.plan.folder)
    if "scan" not in session and "scan" not in st.query_params:
        session["scan"] = next(iter(folders), None)
    if slot.job is not None:
        folders = list(dict.fromkeys([str(slot.job.plan.folder), *folders]))
    if chosen := session.get("scan") or st.query_params.get("scan"):
        folders = list(dict.fromkeys([*folders, chosen]))
    shown = st.selectbox(
        "Scan",
        folders,
        index=None,
        key="scan",
        placeholder="None is open",
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        help="Scans of this browser's workspace; or type the folder of one that `npt-viz scan --out` made.",
    )
    return opened.located(shown) if shown else None


def start_button(slot: ScanSlot, plan: Plan | None) -> None:
    """Button that begins the scan that is set up."""
    st.button(
        "Start",
        type="primary",
        disabled=plan is None,
        on_click=_start,
        args=[slot, plan],
        key="scan_start",
        icon=":material/play_arrow:",
        width="stretch",
        help=f"Into {plain(str(plan.folder))}; parts that are there are not done again." if plan else None,
    )


@guarded_callback
def _start(slot: ScanSlot, plan: Plan) -> None:
    names = ", ".join(Path(path).name for path in plan.corpus.paths)
    entry = recording(
        "scan",
        title=said(Quoted(f"Scan of {names} with {Path(plan.source.checkpoint).name}")),
        sentence=said("No part has finished yet."),
        page="scan",
        folder=str(plan.folder),
    )
    if entry is not None and not slot.is_active:
        entry.put()  # First: the job's own comes when it ends.
    slot.begin(ScanJob(plan, recording=entry))


def stop_button(slot: ScanSlot) -> None:
    """Button that ends the scan that runs."""
    st.button(
        "Stop",
        disabled=not slot.is_active,
        on_click=slot.end,
        key="scan_stop",
        icon=":material/stop:",
        width="stretch",
        help="After the part that runs. Finished parts stay; Start goes on with the others.",
    )


def settings(source: Selection, slot: ScanSlot) -> Plan | None:
    """Draw the controls; the scan that they make, or a sentence why there is none. None while one is running."""
    keeping.settle(*DEFAULTS)
    corpus, field, split = st.columns([5, 1.6, 2.2])
    corpus.text_area(
        "Corpus, one path a line",
        key="scan_corpus",
        height=68,
        persist_state="session",
        help="Text files, .jsonl, .parquet, folders, patterns such as data/\\*.jsonl, a folder that datasets' save_to_disk "
        "made, on the machine that runs the app; `sample` is the text that comes with npt_viz.",
    )
    field.text_input("Field", key="scan_field", persist_state="session", help="Of JSON lines and tables.")
    split.selectbox(
        "In plain text",
        list(SPLITS),
        key="scan_split",
        format_func=SPLITS.__getitem__,
        persist_state="session",
    )
    tokens, window, mode, positions, predict = st.columns(5, vertical_alignment="bottom")
    tokens.number_input(
        "Tokens at most",
        0,
        None,
        step=10_000,
        key="scan_tokens",
        persist_state="session",
        help="From the first text on; 0 takes all.",
    )
    window.number_input(
        "Tokens of a window",
        2,
        None,
        step=128,
        key="scan_window",
        persist_state="session",
        help="What follows in a text begins anew at position 0.",
    )
    mode.selectbox("Evaluate", MODES, key="scan_mode", persist_state="session")
    positions.selectbox("Positions", POSITIONS, key="scan_positions", persist_state="session")
    predict.toggle(
        "Predictions",
        key="scan_predict",
        persist_state="session",
        help="KL, NLL and agreement; without them no layer above the last NPT layer runs.",
    )
    if slot.is_active:
        return None
    try:
        return _plan(source)
    except NptVizError as error:
        problem(str(error))
        return None


def _plan(source: Selection) -> Plan:
    from npt_viz.scanning.corpus import Corpus

    session = st.session_state
    paths = tuple(line.strip() for line in session["scan_corpus"].splitlines() if line.strip())
    corpus = Corpus(paths=paths, field=session["scan_field"].strip() or "text", split=session["scan_split"])
    files = corpus.files()
    model, checkpoint = opened.opened(source)
    window = min(session["scan_window"], model.context_length)
    asked = (
        source,
        corpus,
        [(str(file.path), file.bytes, file.changed_ns) for file in files],
        *(session[f"scan_{name}"] for name in ("tokens", "mode", "positions", "predict")),
        window,
    )
    stamp = hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = f"scan-{Path(checkpoint.name).name}-{Path(paths[0]).stem.strip('*') or 'corpus'}-{stamp}"
    return Plan(
        source=source,
        corpus=corpus,
        folder=owner().folder.runs / name.replace("*", ""),
        mode=session["scan_mode"],
        positions=session["scan_positions"],
        predict=session["scan_predict"],
        window=window,
        max_tokens=session["scan_tokens"] or None,
    )

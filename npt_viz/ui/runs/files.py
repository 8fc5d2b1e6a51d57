"""Which runs are looked at: found below runs/, named by path, or uploaded."""

import re
from pathlib import Path

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.results.runs import Run
from npt_viz.training.log import RUNS
from npt_viz.ui.cache.opened import located
from npt_viz.ui.cache.uploads import session_folder
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.shell.text import code

MOST_OF_A_FOLDER = 12
"""Runs that are shown of a folder of several, such as an experiment's."""

UPLOAD = "upload: "
"""What stands before the name of an uploaded log."""

CHOSEN = "runs"
_UPLOADS = "_runs_uploads"

PATHS_HELP = (
    f"Every `steps.jsonl` and `training_log.jsonl` below `{RUNS}` is offered. Or type a path on the machine that the app "
    "runs on, of a log, of its folder, or of a folder of several, and press Enter; a `config.json` beside a published log tells its weights and "
    "stages."
)


def chosen() -> list[Run]:
    """The runs that are asked for and can be read; says what is wrong with the others."""
    from npt_viz.runs import found_runs

    uploads = st.session_state.setdefault(_UPLOADS, {})
    offered = [str(path.parent if path.name == "steps.jsonl" else path) for path in found_runs(RUNS)]
    said = st.session_state.get(CHOSEN) or st.query_params.get_all(CHOSEN)
    left, right = st.columns([5, 1.2], vertical_alignment="bottom")
    with right.popover("Upload", icon=":material/upload_file:", width="stretch"):
        st.file_uploader(
            "Training logs (.jsonl)",
            ["jsonl"],
            accept_multiple_files=True,
            key="runs_upload",
            on_change=_take_uploads,
        )
    paths = left.multiselect(
        "Runs",
        list(dict.fromkeys([*offered, *uploads, *said])),
        key=CHOSEN,
        accept_new_options=True,
        bind="query-params",
        persist_state="session",
        placeholder="Choose runs, or type a path and press Enter",
        help=PATHS_HELP,
    )
    if not paths:
        st.info(
            "Choose runs above to see and compare their curves: a `training_log.jsonl` of the public code, or what "
            "the Experiments page saved."
            + ("" if offered else f" Nothing lies below {code(str(RUNS))} yet."),
            icon=":material/info:",
        )
    return _with_own_names([run for path in paths for run in _read(path)])


def _read(path: str) -> list[Run]:
    """The runs that a path means; says so where there are none."""
    from npt_viz.runs import logs_of

    found = []
    try:
        if path.startswith(UPLOAD):
            if path not in st.session_state[_UPLOADS]:
                raise NptVizError(
                    f"{path.removeprefix(UPLOAD)} was uploaded in another session; upload it again"
                )
            path = st.session_state[_UPLOADS][path]
        logs = logs_of(located(path.strip()))
        if len(logs) > MOST_OF_A_FOLDER:
            st.caption(f"{code(path)} holds {len(logs)} runs; the first {MOST_OF_A_FOLDER} are shown.")
        for log in logs[:MOST_OF_A_FOLDER]:
            marks = [(file.stat().st_mtime_ns, file.stat().st_size) for file in _files(log)]
            found.append(_run(str(log), tuple(marks)))
    except NptVizError as error:
        problem(str(error))
    except OSError as error:
        problem(f"{path} cannot be read ({error.strerror}); check the path and its permissions")
    return found


def _files(log: Path) -> list[Path]:
    """What a run is read from."""
    return [path for path in (log, log.parent / "config.json") if path.exists()]


@st.cache_resource(max_entries=32, show_spinner="Reading the log")
def _run(log: str, marks: tuple[tuple[int, int], ...]) -> Run:
    """marks: time and size of the files, so that a log that has grown is read again."""
    from npt_viz.runs import read_run

    return read_run(log)


def _take_uploads() -> None:
    """Keep the uploaded files for the session, and choose them."""
    for file in st.session_state["runs_upload"]:
        # The name is the user's: only its harmless part becomes a path.
        name = re.sub(r"[^\w.-]+", "_", Path(file.name).name).lstrip(".") or "log.jsonl"
        path = session_folder() / "runs" / file.file_id[:12] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getbuffer())
        label = f"{UPLOAD}{name}"
        st.session_state[_UPLOADS][label] = str(path)
        if label not in st.session_state[CHOSEN]:
            st.session_state[CHOSEN] = [*st.session_state[CHOSEN], label]


def _with_own_names(runs: list[Run]) -> list[Run]:
    """Runs of one name get their folder's before it, or a number behind it."""
    from dataclasses import replace

    found: list[Run] = []
    for run in runs:
        name, number = run.name, 2
        if any(other.name == name for other in runs if other is not run):
            folder = Path(run.origin).parent
            name = next((f"{part} / {name}" for part in folder.parts[::-1] if part != name), name)
        base = name
        while any(other.name == name for other in found):
            name, number = f"{base} ({number})", number + 1
        found.append(replace(run, name=name))
    return found

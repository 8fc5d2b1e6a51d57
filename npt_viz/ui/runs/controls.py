"""Runs page: choice of runs, columns, axis, smoothing and layer."""

import streamlit as st

from npt_viz.figures.runs import AXES
from npt_viz.results.runs import HELDOUT, Axis, Run
from npt_viz.training.log import RUNS
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.runs.state import CHOSEN, UPLOADS, RunsView, runs_at, take_uploads, with_own_names
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.found import shipped_experiments
from npt_viz.ui.shell.text import code

PATHS_HELP = (
    f"Every `steps.jsonl`, `training_log.jsonl` and `run-….wandb` below `{RUNS}` is offered. Or type a path on the machine "
    "that the app runs on, of a log, of its folder, of a folder of several, or of a CSV that W&B, MLflow or trackio "
    "exported, and press Enter; a `config.json` beside a published log tells its weights and stages, and a W&B run has them in it."
)

NOT_DRAWN = {"n_tokens", "seconds", "tokens"}

FIRST_CHOICE = ("total", "loss/direct")

FIRST_HELDOUT = ("heldout/recovered", "heldout/direct", "heldout/total")

ALL_LAYERS = "all"

MOST_SERIES = 12


def chosen_runs() -> list[Run]:
    """Choice of runs; returns those that can be read and says what is wrong with the others."""
    from npt_viz.runs import found_runs

    keeping.settle(UPLOADS)
    uploads = st.session_state[UPLOADS]
    folder = owner().folder
    logs = [log for where in (RUNS, folder.runs, folder.trainings) for log in found_runs(where)]
    offered = [str(path.parent if path.name == "steps.jsonl" else path) for path in logs]
    shipped = shipped_experiments()
    if CHOSEN not in st.session_state and CHOSEN not in st.query_params:
        # The newest of one's own, else what comes with npt_viz: a first visit shows what the page is for.
        st.session_state[CHOSEN] = (offered or shipped)[:1]
    paths_before = st.session_state.get(CHOSEN) or st.query_params.get_all(CHOSEN)
    left, right = st.columns([5, 1.2], vertical_alignment="bottom")
    with right.popover("Upload", icon=":material/upload_file:", width="stretch"):
        st.file_uploader(
            "Training logs (.jsonl), W&B offline runs (run-….wandb), CSV exports",
            ["jsonl", "wandb", "csv", "tsv"],
            accept_multiple_files=True,
            key="runs_upload",
            on_change=take_uploads,
        )
    paths = left.multiselect(
        "Runs",
        list(dict.fromkeys([*offered, *shipped, *uploads, *paths_before])),
        key=CHOSEN,
        accept_new_options=True,
        bind="query-params",
        persist_state="session",
        placeholder="Choose runs, or type a path and press Enter",
        help=PATHS_HELP,
    )
    if not paths:
        st.info(
            "Choose runs above to see and compare their curves: a `training_log.jsonl` of the public code, an offline run "
            "of Weights & Biases, a CSV export, what the Training and Experiments pages saved, or the folder that "
            "`npt-viz train --out` wrote."
            + ("" if offered else f" Nothing lies below {code(str(RUNS))} yet."),
            icon=":material/info:",
        )
    return with_own_names([run for path in paths for run in runs_at(path)])


def choices(runs: list[Run]) -> RunsView:
    """Choice of columns, axis, smoothing and layer for these runs."""
    columns = list(dict.fromkeys(name for run in runs for name in run.columns if name not in NOT_DRAWN))
    heldout = [name for name in columns if name.startswith(HELDOUT)]
    columns = [name for name in columns if name not in heldout]
    series = [(run, layer) for run in runs for layer in run.layers]
    left, right, layer, settings = st.columns([3, 3, 1.6, 1.6], vertical_alignment="bottom")
    with left:
        shown = _columns("In training", columns, FIRST_CHOICE, key="runs_columns")
    with right:
        shown_heldout = _columns("On held-out text", heldout, FIRST_HELDOUT, key="runs_heldout")
    with layer:
        series = _layers(series, shown + shown_heldout)
    with settings.popover("Axes", icon=":material/tune:", width="stretch", key="runs_axes"):
        x: Axis = st.segmented_control(
            "Along",
            list(AXES),
            key="runs_x",
            default="step",
            required=True,
            bind="query-params",
            persist_state="session",
        )
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.0,
            0.01,
            key="runs_smoothing",
            bind="query-params",
            persist_state="session",
            help="β of an exponential moving average, m ← β m + (1 − β) y; the raw values stay behind it, faint. "
            "Held-out values are few and are drawn as they are.",
        )
        log = st.toggle("Log y", key="runs_log", bind="query-params", persist_state="session")
    return RunsView(runs, series, shown, shown_heldout, x, smoothing, log)


def _columns(label: str, options: list[str], first: tuple[str, ...], *, key: str) -> list[str]:
    if not options:
        st.caption(f"{label}: nothing was logged.")
        return []
    default = [name for name in first if name in options][:1] or options[:1]
    kept = [name for name in st.session_state.get(key, []) if name in options]
    if key in st.session_state and kept != st.session_state[key]:
        st.session_state[key] = kept or default
    return st.multiselect(
        label,
        options,
        default=None if key in st.session_state else default,
        key=key,
        bind="query-params",
        persist_state="session",
    )


def _layers(series: list[tuple[Run, int | None]], columns: list[str]) -> list[tuple[Run, int | None]]:
    """Those of the chosen layer, where a run has several."""
    layers = list(dict.fromkeys(layer for _, layer in series))
    if all(len(run.layers) == 1 for run, _ in series):
        return series[:MOST_SERIES]
    options = [ALL_LAYERS, *(str(layer) for layer in layers if layer is not None)]
    if st.session_state.get("runs_layer") not in options:
        st.session_state["runs_layer"] = ALL_LAYERS
    wanted = st.selectbox("Layer", options, key="runs_layer", bind="query-params", persist_state="session")
    chosen = [
        (run, layer)
        for run, layer in series
        if wanted in (ALL_LAYERS, str(layer)) and any(name in run.layers[layer].columns for name in columns)
    ]
    if len(chosen) > MOST_SERIES:
        st.caption(f"Drawn: the first {MOST_SERIES} of {len(chosen)} curves; choose a layer.")
    return chosen[:MOST_SERIES]

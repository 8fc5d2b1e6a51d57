"""Which loss helps?"""

from pathlib import Path

import streamlit as st

from npt_viz import ui
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.experiments.controls import settings
from npt_viz.ui.experiments.job import ExperimentJob, experiment_slot
from npt_viz.ui.experiments.panels import results, saved_experiments

ui.require_app()
ui.page_title("Experiments", "Which loss helps?")
ui.source_bar(asks=False)

source, slot = ui.selection(), experiment_slot()
ready(source, with_checkpoint=bool(source.checkpoint))

with st.expander("Set up an experiment", expanded=not slot.is_active, icon=":material/tune:"):
    plan = settings(source, slot, st.session_state["prompt"])

start, stop, saved = st.columns([1.2, 1.2, 4.4], vertical_alignment="bottom")
start.button(
    "Start",
    type="primary",
    disabled=plan is None,
    on_click=lambda: slot.begin(ExperimentJob(plan.folder, plan.begin)),
    key="experiment_start",
    icon=":material/play_arrow:",
    width="stretch",
    help=f"{plan.sentence}, in {ui.plain(str(plan.folder))}" if plan else None,
)
stop.button(
    "Stop",
    disabled=not slot.is_active,
    on_click=slot.end,
    key="experiment_stop",
    icon=":material/stop:",
    width="stretch",
    help="After the step that runs. Finished arms stay; Start goes on with the others.",
)
folders = [str(path) for path in saved_experiments()]
if slot.job is not None and st.session_state.get("_experiment_job") is not slot.job:
    # A new experiment shows itself; afterwards the choice is the user's.
    st.session_state["_experiment_job"], st.session_state["experiment"] = slot.job, str(slot.job.folder)
    folders = list(dict.fromkeys([str(slot.job.folder), *folders]))
shown = saved.selectbox(
    "Saved experiments",
    folders,
    index=None,
    key="experiment",
    placeholder="None is open",
    bind="query-params",
    persist_state="session",
)
results(slot, Path(shown) if shown else None)

"""Panels of a running training: buttons, curves, alarms. They draw snapshots; the job never waits for them."""

import time
from collections.abc import Sequence

import streamlit as st

from npt_viz.figures.training import PANELS, has_lines, panel
from npt_viz.results.training import Curves
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.guarded import guarded_callback, problem
from npt_viz.ui.shell.lease import lease_sentence
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.train.controls import Plan
from npt_viz.ui.train.job import Snapshot, TrainingJob, TrainingSlot, place_of, recorded_at
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.inspecting import theme

REFRESH = 1.0
"""Seconds between two drawings of a running training."""

OF_VECTORS = ("variance", "norms")
"""Panels of what an additive adapter has not."""

ICONS = {"info": ":material/info:", "warning": ":material/warning:", "error": ":material/error:"}


def buttons(source: Selection, slot: TrainingSlot, plan: Plan | None) -> None:
    """Start, pause, one step, stop, reset. They stand outside what refreshes, so that a click redraws the page."""
    now = slot.job.snapshot() if slot.job else None
    active = now is not None and now.is_active
    waiting = active and now.state == "paused"
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            "Start",
            type="primary",
            disabled=active or plan is None,
            on_click=_start,
            args=[slot, plan, source],
            key="training_start",
            icon=":material/play_arrow:",
        )
        st.button(
            "One step",
            disabled=(active and not waiting) or (plan is None and not active),
            on_click=_one_step,
            args=[slot, plan, source],
            key="training_one",
            icon=":material/step:",
            help="Take one step and wait; begins a training that waits, where there is none.",
        )
        st.button(
            "Go on" if waiting else "Pause",
            disabled=not active,
            on_click=_pause_or_go_on,
            args=[slot, waiting],
            key="training_pause",
            icon=":material/resume:" if waiting else ":material/pause:",
        )
        st.button(
            "Stop",
            disabled=not active,
            on_click=slot.end,
            key="training_stop",
            icon=":material/stop:",
            help="After the step that runs. What was learned stays.",
        )
        _reset_button(slot, active, now is not None)
    if plan is not None and not active:
        st.caption(f"{plan.sentence}  \n{plan.estimate}")
    elif active:
        st.caption(f"Goes on when you leave. {lease_sentence()}")


def _reset_button(slot: TrainingSlot, active: bool, is_there: bool) -> None:
    if not is_there and slot.forgotten is not None:
        st.button(
            "Bring back",
            on_click=slot.bring_back,
            key="training_bring_back",
            icon=":material/undo:",
            help="Show the training again that was reset last.",
        )
        return
    with st.popover("Reset", disabled=not is_there, icon=":material/restart_alt:"):
        st.caption("Its curves go; what was saved of it stays. It can be brought back until another starts.")
        st.button(
            "Stop and forget this training" if active else "Forget this training",
            on_click=slot.forget,
            key="training_reset",
            type="primary",
        )


def live(slot: TrainingSlot) -> None:
    """The state, the answer and the curves; refreshes itself while the job is active."""
    if slot.job is None:
        with st.container(key="main_figure"):
            st.info(
                "Choose what to train and press Start; the curves appear here as it learns.",
                icon=":material/info:",
            )
        return
    active = slot.is_active
    st.fragment(_live, run_every=REFRESH if active else None)(slot, active)


def _live(slot: TrainingSlot, was_active: bool) -> None:
    job = slot.job
    if job is None:
        return
    now = job.snapshot()
    if was_active and not now.is_active:
        # The whole page once more: the timer ends, Start is enabled.
        st.rerun()
    st.progress(min(1.0, now.fraction), text=status(now))
    if now.error:
        problem(now.error)
    for sentence in job.endings:
        problem(sentence)
    st.markdown(markdown(job.sentence))
    for alarm in job.history.alarms[-4:]:
        st.caption(f"{ICONS[alarm.severity]} step {alarm.step}, layer {alarm.layer}: {plain(alarm.sentence)}")
    if job.history.last is not None:
        _curves(job, across=3 if was_active else 2)


def _curves(job: TrainingJob, *, across: int) -> None:
    history, marks = job.history, _marks(job.training.objective) if job.training else ()
    layers = history.layers
    layer = layers[-1]
    if len(layers) > 1:
        if st.session_state.get("training_shown") not in layers:
            st.session_state["training_shown"] = layer
        chosen = st.segmented_control("Layer", layers, key="training_shown", required=True)
        layer = layer if chosen is None else chosen
    curves = history.curves(layer, points=300)
    shown = [name for name in PANELS if len(curves.parts("loss")) > 1 or name not in ("shares", "cosines")]
    shown = [name for name in shown if name not in OF_VECTORS or has_lines(name, curves)]
    with st.container(key="main_figure"):
        _panels(shown[:across], curves, marks, across)
    for row in range(across, len(shown), across):
        _panels(shown[row : row + across], curves, marks, across)


def _panels(names: Sequence[str], curves: Curves, marks: Sequence[tuple[int, str]], across: int) -> None:
    for place, name in zip(st.columns(across), names, strict=False):
        with place:
            st.markdown(f"**{PANELS[name].title}**", help=PANELS[name].what)
            chart(panel(name, curves, marks=marks, theme=theme()), key=f"training_panel_{name}")


def status(now: Snapshot) -> str:
    """State and steps of a training, in words."""
    match now.state:
        case "preparing":
            return now.stage
        case "running":
            rate = now.done / now.seconds if now.seconds else 0.0
            left = f", about {_time((now.total - now.done) / rate)} left" if rate else ""
            return f"step {now.done:,} of {now.total:,}, {rate:.1f} steps a second{left}"
    total = f"{now.total:,}" if now.total else "?"
    return f"{now.state} after {now.done:,} of {total} steps, {_time(now.seconds)} of training"


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S" if seconds >= 3600 else "%M:%S", time.gmtime(seconds))


def _marks(objective) -> tuple[tuple[int, str], ...]:
    """Steps at which stages and curriculum change, with their names; counted in steps of a layer."""
    marks = []
    if objective.stage_steps is not None:
        marks += [(objective.stage_steps, "stage 2"), (3 * objective.stage_steps, "stage 3")]
    if objective.curriculum is not None:
        marks += [(step, "more tokens") for step in objective.curriculum.steps]
    return tuple(marks)


@guarded_callback
def _start(slot: TrainingSlot, plan: Plan, source: Selection, *, paused: bool = False) -> None:
    place = place_of(owner(), source.base)
    slot.begin(TrainingJob(plan.begin, paused=paused, place=place, recording=recorded_at(place)))
    slot.forgotten = None


def _pause_or_go_on(slot: TrainingSlot, waiting: bool) -> None:
    if slot.job is not None:
        (slot.job.go_on if waiting else slot.job.pause)()


def _one_step(slot: TrainingSlot, plan: Plan | None, source: Selection) -> None:
    if plan is not None and not slot.is_active:
        _start(slot, plan, source, paused=True)
    if slot.job is not None:
        slot.job.one_step()

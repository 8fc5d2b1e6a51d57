"""Controls of the Experiments page, and the experiment they set, checked before it starts."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress
from npt_viz.results.sentences import Quoted, said
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.experiments.controls_arms import arm_controls, chosen_arms
from npt_viz.ui.experiments.job import ExperimentJob, ExperimentSlot, chosen_folder, saved_experiments
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.found import shipped_experiments
from npt_viz.ui.shell.guarded import guarded_callback, problem
from npt_viz.ui.shell.recording import recording
from npt_viz.ui.shell.text import plain
from npt_viz.ui.train.controls import chosen_recipe, cost_sentence, fill_defaults, schedule_controls
from npt_viz.ui.train.controls_adapter import RESULT, adapter_controls, spec_or_layers
from npt_viz.ui.train.controls_texts import TextChoice, chosen_text, text_controls
from npt_viz.ui.train.job import training_slot

if TYPE_CHECKING:
    from npt_viz.experiments.plan import Experiment

DEFAULTS = {
    "experiment_name": "first experiment",
    "experiment_seeds": 2,
    "experiment_reference": None,
    "experiment_processes": 1,
    "experiment_steps": 300,
    "experiment_every": 30,
}
keeping.keep_all(DEFAULTS)


@dataclass(frozen=True)
class Plan:
    """An experiment that could start now."""

    experiment: "Experiment"
    folder: Path
    texts: tuple[str, ...] | None
    """Kept in the folder; None for the bundled sample."""
    processes: int
    source: Selection
    estimate: str
    """What it will take; safe Markdown."""

    @property
    def sentence(self) -> str:
        """The plan in a line of safe Markdown."""
        arms, seeds = len(self.experiment.arms), len(self.experiment.seeds)
        seeds_text = "1 seed" if seeds == 1 else f"{seeds} seeds"
        return f"{arms} arms × {seeds_text} × {self.experiment.recipe.steps:,} steps"

    def begin(self, progress: Progress) -> Generator[float]:
        """Run the experiment; the work of an ExperimentJob."""
        if self.processes > 1:
            from npt_viz.experiments.processes import run_in_processes

            progress(f"training in {self.processes} processes", None)
            yield from run_in_processes(self.experiment, self.folder, self.processes, texts=self.texts)
            return
        from npt_viz.experiments.running import run_experiment
        from npt_viz.model.memory import out_of_memory_explained

        model = opened.opened_model(*self.source.base)
        with out_of_memory_explained(
            "this experiment", "use fewer layers, less text, or fewer tokens a batch"
        ):
            for event in run_experiment(
                model, self.experiment, self.folder, texts=self.texts, progress=progress
            ):
                progress(f"{event.task.arm}, seed {event.task.seed}", None)
                part = event.step.number / self.experiment.recipe.steps if event.step else 1.0
                yield (event.number - 1 + min(part, 1.0)) / event.total


def chosen_experiment(slot: ExperimentSlot) -> Path | None:
    """Draw the list of saved experiments; the one that is shown: a new one, what was chosen, or the newest."""
    session, folders = st.session_state, saved_experiments()
    if slot.job is not None and session.get("_experiment_job") is not slot.job:
        # A new experiment shows itself; afterwards the choice is the user's.
        session["_experiment_job"], session["experiment"] = slot.job, str(slot.job.folder)
    if "experiment" not in session and "experiment" not in st.query_params:
        session["experiment"] = next(iter(folders), None)
    if slot.job is not None:
        folders = list(dict.fromkeys([str(slot.job.folder), *folders]))
    shown = st.selectbox(
        "Experiment",
        folders,
        index=None,
        key="experiment",
        placeholder="None is open",
        format_func=_named,
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        help="Those in the folder of runs and in this browser's workspace, and one that comes with npt_viz.",
    )
    return opened.located(shown) if shown else None


def _named(folder: str) -> str:
    name = Path(folder).name
    return f"{name} (comes with npt_viz)" if folder in shipped_experiments() else f"{name} · {folder}"


def start_button(slot: ExperimentSlot, plan: Plan | None) -> None:
    """Button that begins the experiment that is set up."""
    st.button(
        "Start",
        type="primary",
        disabled=plan is None,
        on_click=_start,
        args=[slot, plan],
        key="experiment_start",
        icon=":material/play_arrow:",
        width="stretch",
        help=f"{plan.sentence}, in {plain(str(plan.folder))}. {plan.estimate}" if plan else None,
    )


@guarded_callback
def _start(slot: ExperimentSlot, plan: Plan) -> None:
    folder = str(plan.folder.absolute())
    entry = recording(
        "experiment",
        title=said(Quoted(f"{plan.experiment.name}: {plan.sentence}")),
        sentence=said("No arm has finished yet."),
        page="experiments",
        folder=folder,
    )
    if entry is not None and not slot.is_active:
        entry.put()  # First: the job's own comes when it ends.
    slot.begin(ExperimentJob(plan.folder, plan.begin, recording=entry))


def stop_button(slot: ExperimentSlot) -> None:
    """Button that ends the experiment that runs."""
    st.button(
        "Stop",
        disabled=not slot.is_active,
        on_click=slot.end,
        key="experiment_stop",
        icon=":material/stop:",
        width="stretch",
        help="After the step that runs. Finished arms stay; Start goes on with the others.",
    )


def settings(source: Selection, slot: ExperimentSlot, prompt: str) -> Plan | None:
    """Draw the controls; the plan that they make, or a sentence why there is none. None while one is running."""
    keeping.settle(*DEFAULTS)
    fill_defaults(source)
    arms, adapter, text, schedule = st.tabs(["Arms and losses", "Adapter", "Text", "Schedule"])
    with arms:
        arm_controls()
    with adapter:
        adapter_controls(source, training_slot())
    with text:
        text_controls()
    with schedule:
        schedule_controls(steps="experiment_steps", every="experiment_every", across=5)
    _run_controls()
    if slot.is_active:
        return None
    try:
        plan = _plan(source, prompt)
    except NptVizError as error:
        problem(str(error))
        return None
    st.caption(f"{plan.sentence}. {plan.estimate}")
    return plan


def _run_controls() -> None:
    name, reference, seeds, processes = st.columns([3, 3, 1.2, 1.2], vertical_alignment="bottom")
    name.text_input(
        "Name",
        key="experiment_name",
        help=f"The folder below {plain(str(chosen_folder()))} that keeps the results.",
        persist_state="session",
    )
    try:
        names = [arm.name for arm in chosen_arms()]
    except NptVizError:
        names = []  # The plan says why.
    if st.session_state["experiment_reference"] not in names:
        st.session_state["experiment_reference"] = names[0] if names else None
    reference.selectbox("Compare with", names, key="experiment_reference", persist_state="session")
    seeds.number_input(
        "Seeds",
        1,
        20,
        key="experiment_seeds",
        help="Repeats of every arm; from two on, differences get an interval.",
        persist_state="session",
    )
    processes.number_input(
        "Processes",
        1,
        16,
        key="experiment_processes",
        help="1 trains the arms in turn, here. More load the model once each, and share the cores.",
        persist_state="session",
    )


def _plan(source: Selection, prompt: str) -> Plan:
    from npt_viz.experiments.folder import free_folder
    from npt_viz.experiments.plan import Experiment
    from npt_viz.training.rehearsal import rehearse
    from npt_viz.training.spec import AdapterSpec

    session = st.session_state
    if session["training_from"] == RESULT:
        raise NptVizError(
            "an experiment cannot begin with a training that is not saved; save it, and open it on Home"
        )
    text, start = chosen_text(), spec_or_layers(source)
    fresh = isinstance(start, AdapterSpec)
    if not text.texts:
        raise NptVizError(
            "an experiment needs a text that is there; sample one with `npt_viz sample`, and choose the file"
        )
    if not (slug := _slug(session["experiment_name"])):
        raise NptVizError("the experiment has no name; give it one with a letter or a digit in it")
    experiment = Experiment(
        name=session["experiment_name"].strip(),
        arms=chosen_arms(),
        start=start if fresh else str(opened.located(source.checkpoint).absolute()),
        layers=None if fresh else tuple(start),
        semantics=None if fresh else source.semantics or None,
        recipe=chosen_recipe(steps=session["experiment_steps"], every=session["experiment_every"]),
        seeds=tuple(session["training_seed"] + i for i in range(session["experiment_seeds"])),
        reference=session["experiment_reference"] or "",
        model=source.model,
        dtype=source.dtype,
        device=source.device,
        tokens=text.tokens,
        window=text.window,
        prompt=prompt,
    )
    if isinstance(start, AdapterSpec):
        for arm in experiment.arms:
            try:
                rehearse(opened.opened_model(*source.base), start, arm.losses)
            except NptVizError as error:
                raise NptVizError(f"arm {arm.name!r}: {error}") from None
    bundled = text.label == "bundled sample"
    texts = None if bundled else text.texts
    return Plan(
        experiment,
        free_folder(chosen_folder() / slug, experiment, texts),
        texts,
        session["experiment_processes"],
        source,
        _estimate(source, experiment, text),
    )


def _estimate(source: Selection, experiment: "Experiment", text: TextChoice) -> str:
    start = experiment.start
    layers = experiment.layers or (() if isinstance(start, str) else start.layers)
    objectives = [arm.losses for arm in experiment.arms]
    return cost_sentence(
        source, list(layers), objectives, experiment.recipe, text, times=len(experiment.seeds)
    )


def _slug(name: str) -> str:
    from npt_viz.experiments.plan import slug

    return slug(name)

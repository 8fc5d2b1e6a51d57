"""Controls of the Training page, and the plan they set, checked before it starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress
from npt_viz.training.recipe import AUTOCAST, SCHEDULES, STREAMS, Recipe
from npt_viz.training.settings import SETTINGS, line
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.kept import duration
from npt_viz.ui.cache.on_demand import seconds_per_token
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.shell.text import plain
from npt_viz.ui.train.controls_adapter import RESULT, adapter_controls, forms, spec_or_layers
from npt_viz.ui.train.controls_adapter import fill_defaults as fill_adapter_defaults
from npt_viz.ui.train.controls_losses import chosen_objective, loss_controls
from npt_viz.ui.train.controls_texts import DEFAULTS as TEXT_DEFAULTS
from npt_viz.ui.train.controls_texts import TextChoice, chosen_text, text_controls, token_counts
from npt_viz.ui.train.job import TrainingSlot

if TYPE_CHECKING:
    from npt_viz.training.losses import Objective
    from npt_viz.training.trainer import Training

DEFAULTS = TEXT_DEFAULTS | {
    "training_steps": Recipe.steps,
    "training_rate": Recipe.learning_rate,
    "training_warmup": Recipe.warmup,
    "training_schedule": Recipe.schedule,
    "training_batch": Recipe.batch_tokens,
    "training_accumulate": Recipe.accumulate,
    "training_clip": Recipe.clip,
    "training_decay": Recipe.weight_decay,
    "training_seed": Recipe.seed,
    "training_stream": Recipe.stream,
    "training_whole_sequences": Recipe.whole_sequences,
    "training_cosines_every": Recipe.cosines_every,
    "training_autocast": "auto",
    "training_every": 100,
}
"""Those of Recipe, but for the evaluations: a page that is watched has them more often."""

keeping.keep_all(DEFAULTS)

SCHEDULED = 15
"""Widgets of the Schedule tab."""


@dataclass(frozen=True)
class Plan:
    """A training that could start now."""

    begin: Callable[[Progress], "Training"]
    sentence: str
    """What would be trained, on what; safe Markdown."""
    estimate: str
    """What it will take; safe Markdown."""


def settings(source: Selection, slot: TrainingSlot) -> Plan | None:
    """Draw the controls; the plan that they make, or a sentence why there is none.

    None too while a training is active: nothing else can start, and a check of the plan would run the model.
    """
    fill_defaults(source)
    losses, adapter, text, schedule = st.tabs(["Losses", "Adapter", "Text", "Schedule"])
    with adapter:
        adapter_controls(source, slot)
    with text:
        text_controls()
    with losses:
        loss_controls(forms(source, slot))
    with schedule:
        schedule_controls()
    if slot.is_active:
        return None
    try:
        return _plan(source, slot)
    except NptVizError as error:
        problem(str(error))
        return None


def fill_defaults(source: Selection) -> None:
    """Set the controls that have no value yet to their defaults."""
    keeping.settle(*DEFAULTS)
    fill_adapter_defaults(source)


def schedule_controls(
    *, steps: str = "training_steps", every: str = "training_every", across: int = 3
) -> None:
    """Draw the Schedule tab.

    steps, every: keys of the number of steps and of the steps between evaluations. across: widgets in a row.
    """
    # Rows of their own: columns of several widgets would stand at different heights.
    rows = [st.columns(across, vertical_alignment="bottom") for _ in range(-(-SCHEDULED // across))]
    places = iter(column for row in rows for column in row)

    def number(label: str, name: str, low: float, step: float) -> None:
        style = "%g" if isinstance(low, float) else None
        (key,) = SETTINGS[name].widgets
        key = {"steps": steps, "evaluate_every": every}.get(name, key)
        next(places).number_input(
            label,
            low,
            None,
            step=step,
            key=key,
            format=style,
            help=plain(line(name)),
            persist_state="session",
        )

    def choice(label: str, name: str, options: Sequence[str]) -> None:
        next(places).selectbox(
            label,
            options,
            key=SETTINGS[name].widgets[0],
            format_func=lambda each: each.replace("_", " "),
            help=plain(line(name)),
            persist_state="session",
        )

    number("Steps", "steps", 1, 100)
    number("Learning rate", "learning_rate", 0.0, 1e-3)
    number("Warm-up steps", "warmup", 0, 10)
    choice("After the warm-up", "schedule", SCHEDULES)
    number("Tokens a batch", "batch_tokens", 8, 64)
    number("Batches a step", "accumulate", 1, 1)
    number("Clip the gradient at", "clip", 0.0, 0.5)
    number("Weight decay", "weight_decay", 0.0, 0.01)
    number("Seed", "seed", 0, 1)
    number("Steps between evaluations", "evaluate_every", 1, 50)
    choice("Stream", "stream", STREAMS)
    choice("bfloat16", "autocast", list(AUTOCAST))
    number("Steps between cosines", "cosines_every", 1, 10)
    next(places).toggle(
        "Whole sequences",
        key="training_whole_sequences",
        help=plain(line("whole_sequences")),
        persist_state="session",
    )
    next(places).caption(f"Positions: {st.session_state['positions']}, as the Inspect pages' head says")


def _plan(source: Selection, slot: TrainingSlot) -> Plan:
    from npt_viz.training.rehearsal import rehearse
    from npt_viz.training.streams import Captures

    model = opened.opened_model(*source.base)
    objective, text, start = chosen_objective(forms(source, slot)), chosen_text(), _start(source, slot)
    session = st.session_state
    recipe = chosen_recipe(steps=session["training_steps"], every=session["training_every"])
    rehearse(model, start, objective)
    captures = slot.captures = slot.captures or Captures()

    def begin(progress: Progress) -> "Training":
        from npt_viz.model.memory import out_of_memory_explained
        from npt_viz.training.trainer import Training

        with out_of_memory_explained("this training", "use fewer layers, less text, or fewer tokens a batch"):
            corpus = text.corpus(model, recipe.seed, progress)
            return Training(model, start, corpus, objective, recipe, progress=progress, captures=captures)

    estimate = cost_sentence(source, list(start.layers), [objective], recipe, text)
    return Plan(begin, _sentence(source, start, objective, text), estimate)


def cost_sentence(
    source: Selection,
    layers: Sequence[int],
    objectives: "Sequence[Objective]",
    recipe: Recipe,
    text: TextChoice,
    *,
    times: int = 1,
) -> str:
    """What training these layers once for each objective, so many times, will take; safe Markdown."""
    from npt_viz.files import gigabytes
    from npt_viz.training.cost import cost

    train, heldout = counted_tokens(source, text, recipe.seed)
    costs = [
        cost(
            opened.opened_model(*source.base),
            layers,
            objective,
            recipe,
            n_train=train,
            n_heldout=heldout,
            seconds_per_token=seconds_per_token(source),
        )
        for objective in objectives
    ]
    n_bytes = max(each.n_bytes for each in costs)
    # Trainings on the same text share the capture.
    capture, steps = max(each.capture for each in costs), times * sum(each.steps for each in costs)
    return plain(
        f"Estimate: the capture takes {gigabytes(n_bytes)} and about {duration(capture)}, the steps about {duration(steps)}"
    )


def chosen_recipe(*, steps: int, every: int) -> Recipe:
    """Recipe that the Schedule tab sets; raises NptVizError for values that cannot be."""
    session = st.session_state
    return Recipe(
        steps=steps,
        seed=session["training_seed"],
        learning_rate=session["training_rate"],
        warmup=session["training_warmup"],
        schedule=session["training_schedule"],
        batch_tokens=session["training_batch"],
        accumulate=session["training_accumulate"],
        clip=session["training_clip"],
        weight_decay=session["training_decay"],
        evaluate_every=every,
        whole_sequences=session["training_whole_sequences"],
        cosines_every=session["training_cosines_every"],
        stream=session["training_stream"],
        autocast=AUTOCAST[session["training_autocast"]],
        positions=session["positions"],
    )


def _start(source: Selection, slot: TrainingSlot):
    """Start of the training: a checkpoint or a spec."""
    if (
        st.session_state["training_from"] == RESULT
        and slot.job is not None
        and (result := slot.job.checkpoint())
    ):
        return result
    start = spec_or_layers(source)
    if isinstance(start, list):
        return opened.opened(source)[1].of_layers(start)
    return start


def _sentence(source: Selection, start, objective: "Objective", text) -> str:
    layers = list(start.layers)
    which = f"Layer {layers[0]}" if len(layers) == 1 else f"Layers {', '.join(map(str, layers))}"
    losses = ", ".join(name.replace("_", " ") for name in objective.active)
    train, heldout = counted_tokens(source, text, st.session_state["training_seed"])
    tokens = f"{train:,} tokens, {heldout:,} more held out"
    if not text.texts:
        tokens = f"about {train + heldout:,} tokens that the base writes first"
    above = "; the layers above run at every step" if objective.needs_logits else ""
    return f"{which} · {losses}{above} · {tokens}"


def counted_tokens(source: Selection, text: TextChoice, seed: int) -> tuple[int, int]:
    """(to train on, held out); about, where the base has to write the text first."""
    from npt_viz.training.sampling import SAMPLE_TOKENS

    if text.texts:
        return token_counts(source.base, text, seed)
    written = text.n_samples * SAMPLE_TOKENS
    return written - written // 10, written // 10

"""Controls of the Training page, and the plan they set, checked before it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress
from npt_viz.training.recipe import (
    FRESH_COMPONENTS,
    FRESH_RANK,
    FRESH_TARGETS,
    INITIALISATIONS,
    SCHEDULES,
    STREAMS,
    Recipe,
)
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.train.controls_losses import chosen_objective, loss_controls
from npt_viz.ui.train.controls_texts import DEFAULTS as TEXT_DEFAULTS
from npt_viz.ui.train.controls_texts import SAMPLE_TOKENS, chosen_text, text_controls, token_counts
from npt_viz.ui.train.job import TrainingSlot

if TYPE_CHECKING:
    from npt_viz.training.losses import Objective
    from npt_viz.training.spec import AdapterSpec
    from npt_viz.training.trainer import Training

FRESH, OPEN, RESULT = BEGINNINGS = ("a fresh adapter", "the open checkpoint", "the result so far")

STREAM_HELP = (
    "**base**: every layer on the base model's activations; layers do not influence each other.\n\n**in order**: one "
    "layer after the other, each on the stream that the trained ones below make, captured anew (self-correcting)."
    "\n\n**end to end**: all at once, on the stream as the running NPT model makes it."
)
INITIALISATION_HELP = (
    "**attention**: directions of the attention output itself; changes nothing yet. The others are published schemes: "
    "improved and conservative for one layer, uniform for several."
)
ATTENTION_HELP = (
    "**withheld**: the modulated MLP has to write a + MLP(z_C). **beside**: a stays in the stream, and the MLP has to "
    "write MLP(z_C)."
)

DEFAULTS = TEXT_DEFAULTS | {
    "training_from": FRESH,
    "training_layers": [],
    "training_targets": list(FRESH_TARGETS),
    "training_components": FRESH_COMPONENTS,
    "training_initialisation": INITIALISATIONS[0],
    "training_attention": "withheld",
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
    "training_every": 100,
}
"""Those of Recipe, but for the evaluations: a page that is watched has them more often."""


@dataclass(frozen=True)
class Plan:
    """A training that could start now."""

    begin: Callable[[Progress], "Training"]
    sentence: str
    """What would be trained, on what; safe Markdown."""


def settings(source: Selection, slot: TrainingSlot) -> Plan | None:
    """Draw the controls; the plan that they make, or a sentence why there is none.

    None too while a training is active: nothing else can start, and a check of the plan would run the model.
    """
    fill_defaults(source)
    adapter, text, losses, schedule = st.tabs(["Adapter", "Text", "Losses", "Schedule"])
    with adapter:
        adapter_controls(source, slot)
    with text:
        text_controls()
    with losses:
        loss_controls()
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
    for key, value in DEFAULTS.items():
        st.session_state.setdefault(key, value)
    st.session_state.setdefault("training_rank", min(FRESH_RANK, opened.opened_model(*source.base).d_model))


def adapter_controls(source: Selection, slot: TrainingSlot) -> None:
    """Draw the Adapter tab."""
    session = st.session_state
    trained = [layer.layer for layer in opened.load_report(source).layers] if source.checkpoint else []
    ready = slot.job is not None and slot.job.training is not None
    choices = [name for name, there in zip(BEGINNINGS, (True, trained, ready), strict=True) if there]
    if session["training_from"] not in choices:
        session["training_from"] = FRESH
    st.segmented_control("Start from", choices, key="training_from", required=True, persist_state="session")
    if session["training_from"] == RESULT:
        st.caption("Goes on from the adapters of the last training, on clones, with fresh optimisers.")
        return
    n_layers = opened.opened_model(*source.base).n_layers
    layers = trained if session["training_from"] == OPEN else list(range(n_layers))
    kept = [layer for layer in session["training_layers"] if layer in layers]
    session["training_layers"] = kept or [trained[-1] if session["training_from"] == OPEN else n_layers // 2]
    st.multiselect("Layers", layers, key="training_layers", persist_state="session")
    if session["training_from"] == OPEN:
        st.caption("Clones of the checkpoint's adapters are trained; the checkpoint stays as it is.")
        return
    place = st.columns([1.5, 1, 1, 1.3, 1.3], vertical_alignment="bottom")
    place[0].pills(
        "Targets",
        ["gate", "up", "down"],
        selection_mode="multi",
        key="training_targets",
        persist_state="session",
    )
    place[1].number_input(
        "Rank r", 1, None, key="training_rank", help="Width of the bottleneck.", persist_state="session"
    )
    place[2].number_input(
        "Components k",
        1,
        None,
        key="training_components",
        help="Rank-1 updates a token.",
        persist_state="session",
    )
    place[3].selectbox(
        "Initialisation",
        INITIALISATIONS,
        key="training_initialisation",
        help=INITIALISATION_HELP,
        persist_state="session",
    )
    place[4].selectbox(
        "Attention output",
        ["withheld", "beside"],
        key="training_attention",
        help=ATTENTION_HELP,
        persist_state="session",
    )


def schedule_controls(*, steps: str = "training_steps", every: str = "training_every") -> None:
    """Draw the Schedule tab; steps, every: keys of the number of steps and of the steps between evaluations."""
    place = st.columns(4, vertical_alignment="bottom")

    def number(column: int, label: str, key: str, low: float, step: float, help: str | None = None) -> None:
        style = "%g" if isinstance(low, float) else None
        key = {"steps": steps, "every": every}.get(key, f"training_{key}")
        place[column].number_input(
            label, low, None, step=step, key=key, format=style, help=help, persist_state="session"
        )

    number(0, "Steps", "steps", 1, 100, "Of each layer, where layers train in order.")
    number(1, "Learning rate", "rate", 0.0, 1e-3, "Peak of the schedule.")
    number(2, "Warm-up steps", "warmup", 0, 10)
    place[3].selectbox("After the warm-up", SCHEDULES, key="training_schedule", persist_state="session")
    number(
        0, "Tokens a batch", "batch", 8, 64, "Losses on logits take whole sequences until there are as many."
    )
    number(1, "Batches a step", "accumulate", 1, 1, "Their gradients are averaged.")
    number(2, "Clip the gradient at", "clip", 0.0, 0.5)
    number(3, "Weight decay", "decay", 0.0, 0.01)
    number(0, "Seed", "seed", 0, 1, "Of the initialisation, the split and the order of the text.")
    number(1, "Steps between evaluations", "every", 1, 50)
    place[2].selectbox(
        "Stream",
        STREAMS,
        key="training_stream",
        format_func=lambda name: name.replace("_", " "),
        help=STREAM_HELP,
        persist_state="session",
    )
    place[3].caption(f"Positions: {st.session_state['positions']} (sidebar)")


def _plan(source: Selection, slot: TrainingSlot) -> Plan:
    from npt_viz.training.rehearsal import rehearse
    from npt_viz.training.streams import Captures

    model = opened.opened_model(*source.base)
    objective, text, start = chosen_objective(), chosen_text(), _start(source, slot)
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

    return Plan(begin, _sentence(source, start, objective, text))


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
        stream=session["training_stream"],
        positions=session["positions"],
    )


def _start(source: Selection, slot: TrainingSlot):
    """Start of the training: a checkpoint or a spec."""
    from npt_viz.checkpoint import Checkpoint

    if (
        st.session_state["training_from"] == RESULT
        and slot.job is not None
        and (result := slot.job.checkpoint())
    ):
        return result
    start = spec_or_layers(source)
    if isinstance(start, list):
        model, checkpoint = opened.opened(source)
        return Checkpoint.from_adapters({n: checkpoint.adapter(n) for n in start}, model, checkpoint.name)
    return start


def spec_or_layers(source: Selection) -> "AdapterSpec | list[int]":
    """Spec that the Adapter tab sets, or the layers of the open checkpoint that go on."""
    from npt_viz.adapter import Semantics
    from npt_viz.training.spec import AdapterSpec

    session = st.session_state
    if session["training_from"] == OPEN:
        return list(session["training_layers"])
    return AdapterSpec(
        layers=tuple(session["training_layers"]),
        targets=tuple(target for target in ("gate", "up", "down") if target in session["training_targets"]),
        rank=session["training_rank"],
        components=session["training_components"],
        semantics=Semantics(attention=session["training_attention"]),
        initialisation=session["training_initialisation"],
    )


def _sentence(source: Selection, start, objective: "Objective", text) -> str:
    layers = list(start.layers)
    which = f"Layer {layers[0]}" if len(layers) == 1 else f"Layers {', '.join(map(str, layers))}"
    losses = ", ".join(name.replace("_", " ") for name in objective.active)
    tokens = f"about {text.n_samples * SAMPLE_TOKENS:,} tokens that the base writes first"
    if text.texts:
        train, heldout = token_counts(source.base, text, st.session_state["training_seed"])
        tokens = f"{train:,} tokens, {heldout:,} more held out"
    above = "; the layers above run at every step" if objective.needs_logits else ""
    return f"{which} · {losses}{above} · {tokens}"

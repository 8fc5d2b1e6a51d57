"""The controls of the Training page, and the plan that they make: checked before anything starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.model.progress import Progress
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.train.jobs import Slot
from npt_viz.ui.train.losses import chosen_objective, loss_controls
from npt_viz.ui.train.texts import DEFAULTS as TEXT_DEFAULTS
from npt_viz.ui.train.texts import chosen_text, text_controls, token_counts

if TYPE_CHECKING:
    from npt_viz.training.losses import Objective
    from npt_viz.training.spec import AdapterSpec, Recipe
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
    "training_targets": ["gate", "up"],
    "training_components": 1,
    "training_initialisation": "attention",
    "training_attention": "withheld",
    "training_steps": 1500,
    "training_rate": 3e-3,
    "training_warmup": 50,
    "training_schedule": "cosine",
    "training_batch": 256,
    "training_accumulate": 1,
    "training_clip": 1.0,
    "training_decay": 0.0,
    "training_seed": 0,
    "training_stream": "base",
    "training_every": 100,
}


@dataclass(frozen=True)
class Plan:
    """A training that could start now."""

    begin: Callable[[Progress], "Training"]
    sentence: str
    """What would be trained, on what; safe Markdown."""
    marks: tuple[tuple[int, str], ...]
    """Steps at which the recipe changes, with their names."""


def settings(source: Selection, slot: Slot) -> Plan | None:
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
    """Values for the controls that nobody has touched yet."""
    for key, value in DEFAULTS.items():
        st.session_state.setdefault(key, value)
    st.session_state.setdefault("training_rank", min(64, opened.opened_model(*source.base).d_model))


def adapter_controls(source: Selection, slot: Slot) -> None:
    """Draw the Adapter tab."""
    here = st.session_state
    trained = [layer.layer for layer in opened.load_report(source).layers] if source.checkpoint else []
    ready = slot.job is not None and slot.job.training is not None
    choices = [name for name, there in zip(BEGINNINGS, (True, trained, ready), strict=True) if there]
    if here["training_from"] not in choices:
        here["training_from"] = FRESH
    st.segmented_control("Start from", choices, key="training_from", required=True, persist_state="session")
    if here["training_from"] == RESULT:
        st.caption("Goes on from the adapters of the last training, on clones, with fresh optimisers.")
        return
    n_layers = opened.opened_model(*source.base).n_layers
    layers = trained if here["training_from"] == OPEN else list(range(n_layers))
    kept = [layer for layer in here["training_layers"] if layer in layers]
    here["training_layers"] = kept or [trained[-1] if here["training_from"] == OPEN else n_layers // 2]
    st.multiselect("Layers", layers, key="training_layers", persist_state="session")
    if here["training_from"] == OPEN:
        st.caption("Clones of the checkpoint's adapters are trained; the checkpoint stays as it is.")
        return
    keep = {"persist_state": "session"}
    place = st.columns([1.5, 1, 1, 1.3, 1.3], vertical_alignment="bottom")
    place[0].pills("Targets", ["gate", "up", "down"], selection_mode="multi", key="training_targets", **keep)
    place[1].number_input("Rank r", 1, None, key="training_rank", help="Width of the bottleneck.", **keep)
    place[2].number_input(
        "Components k", 1, None, key="training_components", help="Rank-1 updates a token.", **keep
    )
    place[3].selectbox(
        "Initialisation",
        ["attention", "improved", "conservative", "uniform"],
        key="training_initialisation",
        help=INITIALISATION_HELP,
        **keep,
    )
    place[4].selectbox(
        "Attention output", ["withheld", "beside"], key="training_attention", help=ATTENTION_HELP, **keep
    )


def schedule_controls(*, steps: str = "training_steps", every: str = "training_every") -> None:
    """Draw the Schedule tab; steps, every: keys of the number of steps and of the steps between evaluations."""
    place = st.columns(4, vertical_alignment="bottom")
    keep = {"persist_state": "session"}

    def number(column: int, label: str, key: str, low: float, step: float, help: str | None = None) -> None:
        style = "%g" if isinstance(low, float) else None
        key = {"steps": steps, "every": every}.get(key, f"training_{key}")
        place[column].number_input(label, low, None, step=step, key=key, format=style, help=help, **keep)

    number(0, "Steps", "steps", 1, 100, "Of each layer, where layers train in order.")
    number(1, "Learning rate", "rate", 0.0, 1e-3, "Peak of the schedule.")
    number(2, "Warm-up steps", "warmup", 0, 10)
    place[3].selectbox("After the warm-up", ["cosine", "constant"], key="training_schedule", **keep)
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
        ["base", "in_order", "end_to_end"],
        key="training_stream",
        format_func=lambda name: name.replace("_", " "),
        help=STREAM_HELP,
        **keep,
    )
    place[3].caption(f"Positions: {st.session_state['positions']} (sidebar)")


def _plan(source: Selection, slot: Slot) -> Plan:
    from npt_viz.training.rehearsal import rehearse
    from npt_viz.training.streams import Captures

    model = opened.opened_model(*source.base)
    objective, text, start = chosen_objective(), chosen_text(), _start(source, slot)
    here = st.session_state
    recipe = chosen_recipe(steps=here["training_steps"], every=here["training_every"])
    rehearse(model, start, objective)
    captures = slot.captures = slot.captures or Captures()

    def begin(progress: Progress) -> "Training":
        from npt_viz.model.memory import out_of_memory_explained
        from npt_viz.training.trainer import Training

        with out_of_memory_explained("this training", "use fewer layers, less text, or fewer tokens a batch"):
            corpus = text.corpus(model, recipe.seed, progress)
            return Training(model, start, corpus, objective, recipe, progress=progress, captures=captures)

    return Plan(begin, _sentence(source, start, objective, text), _marks(objective))


def chosen_recipe(*, steps: int, every: int) -> "Recipe":
    """What the Schedule tab says; raises NptVizError for values that cannot be."""
    from npt_viz.training.spec import Recipe

    here = st.session_state
    return Recipe(
        steps=steps,
        seed=here["training_seed"],
        learning_rate=here["training_rate"],
        warmup=here["training_warmup"],
        schedule=here["training_schedule"],
        batch_tokens=here["training_batch"],
        accumulate=here["training_accumulate"],
        clip=here["training_clip"],
        weight_decay=here["training_decay"],
        evaluate_every=every,
        stream=here["training_stream"],
        positions=here["positions"],
    )


def _start(source: Selection, slot: Slot):
    """What the training begins with, in torch's own objects."""
    from npt_viz.checkpoint import Checkpoint

    if (
        st.session_state["training_from"] == RESULT
        and slot.job is not None
        and (found := slot.job.checkpoint())
    ):
        return found
    start = spec_or_layers(source)
    if isinstance(start, list):
        model, checkpoint = opened.opened(source)
        return Checkpoint.from_adapters({n: checkpoint.adapter(n) for n in start}, model, checkpoint.name)
    return start


def spec_or_layers(source: Selection) -> "AdapterSpec | list[int]":
    """What the Adapter tab says: a spec, or the layers of the open checkpoint that are to be trained on."""
    from npt_viz.adapter import Semantics
    from npt_viz.training.spec import AdapterSpec

    here = st.session_state
    if here["training_from"] == OPEN:
        return list(here["training_layers"])
    return AdapterSpec(
        layers=tuple(here["training_layers"]),
        targets=tuple(target for target in ("gate", "up", "down") if target in here["training_targets"]),
        rank=here["training_rank"],
        components=here["training_components"],
        semantics=Semantics(attention=here["training_attention"]),
        initialisation=here["training_initialisation"],
    )


def _sentence(source: Selection, start, objective: "Objective", text) -> str:
    layers = list(start.layers)
    which = f"Layer {layers[0]}" if len(layers) == 1 else f"Layers {', '.join(map(str, layers))}"
    losses = ", ".join(name.replace("_", " ") for name in objective.active)
    tokens = f"about {text.n_samples * 256:,} tokens that the base writes first"
    if text.texts:
        train, heldout = token_counts(source.base, text, st.session_state["training_seed"])
        tokens = f"{train:,} tokens, {heldout:,} more held out"
    above = "; the layers above run at every step" if objective.needs_logits else ""
    return f"{which} · {losses}{above} · {tokens}"


def _marks(objective: "Objective") -> tuple[tuple[int, str], ...]:
    """Where stages and curriculum change, counted in steps of a layer."""
    marks = []
    if objective.stage_steps is not None:
        marks += [(objective.stage_steps, "stage 2"), (3 * objective.stage_steps, "stage 3")]
    if objective.curriculum is not None:
        marks += [(step, "more tokens") for step in objective.curriculum.steps]
    return tuple(marks)

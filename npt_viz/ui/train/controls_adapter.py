"""Controls of the adapter to be trained: where it starts, its variant and its sizes, and the spec that they set."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import streamlit as st

from npt_viz.training.recipe import FRESH_COMPONENTS, FRESH_RANK, FRESH_VARIANT, INITIALISATIONS
from npt_viz.training.settings import line
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.text import plain
from npt_viz.ui.train.job import TrainingSlot

if TYPE_CHECKING:
    from npt_viz.adapter import Semantics, Target
    from npt_viz.training.spec import AdapterSpec

FRESH, OPEN, RESULT = BEGINNINGS = ("a fresh adapter", "the open checkpoint", "the result so far")

DEFAULTS = {
    "training_from": FRESH,
    "training_layers": [],
    "training_variant": FRESH_VARIANT,
    "training_components": FRESH_COMPONENTS,
    "training_initialisation": INITIALISATIONS[0],
}
keeping.keep_all(DEFAULTS)

DECIDED = (
    "training_targets",
    "training_attention",
    "training_scale",
    "training_components",
    "training_initialisation",
)
"""What a variant decides, until the user does."""


class Form(NamedTuple):
    """What decides which losses an adapter can have."""

    semantics: "Semantics"
    targets: "tuple[Target, ...]"


def fill_defaults(source: Selection) -> None:
    """Set the controls of the adapter that have no value yet to their defaults."""
    session = st.session_state
    keeping.settle(*DEFAULTS)
    if "training_targets" not in session:
        session["training_rank"] = min(FRESH_RANK, opened.opened_model(*source.base).d_model)
        _use_variant()
        keeping.overlay("training_rank", *DECIDED)


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
    _form_controls()
    _size_controls()


def _form_controls() -> None:
    from npt_viz.adapter import TARGETS, VARIANTS
    from npt_viz.training.spec import ATTENTION_PATHS, takes_any_target

    session = st.session_state
    st.selectbox(
        "Variant",
        list(VARIANTS),
        key="training_variant",
        format_func=lambda name: f"{name}: {VARIANTS[name].summary}",
        on_change=_use_variant,
        help=plain(line("variant")),
        persist_state="session",
    )
    chosen = VARIANTS[session["training_variant"]]
    free = takes_any_target(chosen.semantics)
    targets, attention, scale = st.columns([1.7, 1.3, 1.2], vertical_alignment="bottom")
    targets.pills(
        "Targets",
        TARGETS,
        selection_mode="multi",
        help=plain(line("targets")),
        key="training_targets",
        disabled=not free,
        persist_state="session",
    )
    attention.selectbox(
        "Attention output",
        ATTENTION_PATHS if free else [chosen.semantics.attention],
        key="training_attention",
        format_func=lambda path: path.replace("_", " "),
        disabled=not free,
        help=plain(line("attention")),
        persist_state="session",
    )
    scale.number_input(
        "Scale",
        key="training_scale",
        step=0.1,
        format="%g",
        disabled=chosen.semantics.rule == "multiplicative",
        help=plain(line("scale")),
        persist_state="session",
    )


def _size_controls() -> None:
    from npt_viz.adapter import VARIANTS, variant_name
    from npt_viz.training.spec import takes_any_target, why_untrainable

    free = takes_any_target(VARIANTS[st.session_state["training_variant"]].semantics)
    rank, components, initialisation = st.columns(3, vertical_alignment="bottom")
    rank.number_input(
        "Rank r", 1, None, key="training_rank", help=plain(line("rank")), persist_state="session"
    )
    components.number_input(
        "Components k",
        1,
        None,
        key="training_components",
        disabled=not free,
        help=plain(line("components")),
        persist_state="session",
    )
    initialisation.selectbox(
        "Initialisation",
        INITIALISATIONS if free else INITIALISATIONS[:1],
        key="training_initialisation",
        disabled=not free,
        help=plain(line("initialisation")),
        persist_state="session",
    )
    form = fresh_form()
    learns = "" if why_untrainable(form.semantics) else f"; the MLP learns {form.semantics.reconstructs}"
    st.caption(plain(variant_name(form.semantics, form.targets) + learns))


def _use_variant() -> None:
    """Set what a variant decides."""
    from npt_viz.adapter import VARIANTS
    from npt_viz.training.spec import takes_any_target

    session, variant = st.session_state, VARIANTS[st.session_state["training_variant"]]
    session["training_targets"] = list(variant.targets)
    session["training_attention"] = variant.semantics.attention
    session["training_scale"] = float(variant.semantics.scale)
    if not takes_any_target(variant.semantics):
        session["training_components"], session["training_initialisation"] = 1, INITIALISATIONS[0]


def fresh_form() -> Form:
    """Semantics and targets that the Adapter tab sets for a fresh adapter."""
    from npt_viz.adapter import TARGETS, VARIANTS

    session = st.session_state
    semantics = VARIANTS[session["training_variant"]].semantics
    semantics = replace(
        semantics, attention=session["training_attention"], scale=float(session["training_scale"])
    )
    return Form(semantics, tuple(target for target in TARGETS if target in session["training_targets"]))


def forms(source: Selection, slot: TrainingSlot) -> list[Form]:
    """Forms of the adapters that would be trained, one a layer where they are there already."""
    from npt_viz.checkpoint.meaning import from_fields

    session = st.session_state
    if session["training_from"] == RESULT and slot.job is not None and slot.job.training is not None:
        return [Form(each.semantics, each.targets) for each in slot.job.training.adapters.values()]
    if session["training_from"] == OPEN:
        return [
            Form(
                from_fields(dict(each.semantics), source.checkpoint), cast("tuple[Target, ...]", each.targets)
            )
            for each in opened.load_report(source).layers
            if each.layer in session["training_layers"]
        ]
    return [fresh_form()]


def spec_or_layers(source: Selection) -> "AdapterSpec | list[int]":
    """Spec that the Adapter tab sets, or the layers of the open checkpoint that go on."""
    from npt_viz.training.spec import AdapterSpec

    session = st.session_state
    if session["training_from"] == OPEN:
        return list(session["training_layers"])
    form = fresh_form()
    return AdapterSpec(
        layers=tuple(session["training_layers"]),
        targets=form.targets,
        rank=session["training_rank"],
        components=session["training_components"],
        semantics=form.semantics,
        initialisation=session["training_initialisation"],
    )

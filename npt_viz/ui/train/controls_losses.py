"""Controls of the losses: a toggle, weight and form each, and how they are weighted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.training.recipe import FRESH_LOSSES
from npt_viz.training.settings import line
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.text import plain
from npt_viz.ui.train.controls_adapter import Form

if TYPE_CHECKING:
    from npt_viz.training.losses import Objective, Term

ADAPTIVE = {
    "off": "off",
    "gradient_norms": "by gradient norms",
    "as_written": "as written (uniform)",
}


WEIGHTING = (
    "adaptive",
    "staged",
    "stage_steps",
    "curriculum",
    "easy",
    "medium",
    "easy_quantile",
    "medium_quantile",
    "gradient_scale",
)
"""The page's choices beside the losses themselves, without the word before them."""


def loss_controls(forms: Sequence[Form] = ()) -> None:
    """Draw the Losses tab; a loss that one of the adapters cannot have is grey and says why."""
    from npt_viz.training.losses import TERMS, objective
    from npt_viz.training.losses.presets import PRESETS

    if "training_on_direct" not in st.session_state:
        use(objective(FRESH_LOSSES))
        keeping.overlay(*(f"training_{kind}_{name}" for name in TERMS for kind in ("on", "weight", "form")))
        keeping.overlay(*(f"training_{name}" for name in WEIGHTING))
    st.selectbox(
        "Start from a preset",
        list(PRESETS),
        index=None,
        key="training_preset",
        placeholder="Take a preset: it sets every toggle",
        on_change=_use_preset,
        label_visibility="collapsed",
    )
    with st.container(key="training_losses", gap="xxsmall"):
        for name, term in TERMS.items():
            _row(name, term, unfit(name, forms), forms)
    with st.expander(f"Weighting: {_weighting()}"):
        _weighting_controls()


def _weighting() -> str:
    """What is set below the losses, in words."""
    session = st.session_state
    parts = [
        *([ADAPTIVE[session["training_adaptive"]]] if session["training_adaptive"] != "off" else ()),
        *([f"stages of {session['training_stage_steps']:,} steps"] if session["training_staged"] else ()),
        *(["curriculum"] if session["training_curriculum"] else ()),
        *(
            [f"gradient × {session['training_gradient_scale']:g}"]
            if session["training_gradient_scale"] != 1
            else ()
        ),
    ]
    return ", ".join(parts) or "fixed"


def _weighting_controls() -> None:
    left, last = st.columns(2, vertical_alignment="bottom")
    left.selectbox(
        "Adaptive weights",
        list(ADAPTIVE),
        key="training_adaptive",
        format_func=ADAPTIVE.__getitem__,
        persist_state="session",
        help=plain(line("adaptive")),
    )
    last.number_input(
        "Scale the gradient by",
        1e-6,
        None,
        key="training_gradient_scale",
        format="%g",
        persist_state="session",
        help=plain(line("gradient_scale")),
    )
    stages, length = st.columns(2, vertical_alignment="center")
    stages.toggle("Stages", key="training_staged", persist_state="session", help=plain(line("stage_steps")))
    length.number_input(
        "S",
        1,
        None,
        step=100,
        key="training_stage_steps",
        disabled=not st.session_state["training_staged"],
        persist_state="session",
    )
    st.toggle(
        "Curriculum", key="training_curriculum", persist_state="session", help=plain(line("curriculum"))
    )
    on = st.session_state["training_curriculum"]
    for label, low, step_key, quantile_key in (
        ("until", 1, "training_easy", "training_easy_quantile"),
        ("then until", 2, "training_medium", "training_medium_quantile"),
    ):
        step, quantile = st.columns(2)
        step.number_input(label, low, None, step=100, key=step_key, disabled=not on, persist_state="session")
        quantile.number_input(
            "quantile",
            0.0,
            1.0,
            step=0.1,
            key=quantile_key,
            format="%g",
            disabled=not on,
            persist_state="session",
        )


def unfit(name: str, forms: Sequence[Form]) -> str | None:
    """Reason why one of the adapters cannot have a loss; None where all can."""
    from npt_viz.training.losses import TERMS

    reasons = (TERMS[name].unfit(*form) for form in forms)
    return next((reason for reason in reasons if reason), None)


def chosen_objective(forms: Sequence[Form] = ()) -> "Objective":
    """Objective that the controls set, without what the adapters cannot have; raises NptVizError where no loss is on."""
    from npt_viz.training.losses import TERMS, Curriculum, Objective

    session = st.session_state
    on = [name for name in TERMS if session[f"training_on_{name}"] and not unfit(name, forms)]
    return Objective(
        weights={name: float(session[f"training_weight_{name}"]) for name in on},
        as_written=frozenset(name for name in on if session[f"training_form_{name}"] == "as_written"),
        stage_steps=session["training_stage_steps"] if session["training_staged"] else None,
        adaptive=session["training_adaptive"],
        curriculum=Curriculum(
            steps=(session["training_easy"], session["training_medium"]),
            quantiles=(session["training_easy_quantile"], session["training_medium_quantile"]),
        )
        if session["training_curriculum"]
        else None,
        gradient_scale=float(session["training_gradient_scale"]),
    )


def use(objective: "Objective") -> None:
    """Set every control to this objective."""
    from npt_viz.training.losses import TERMS, Curriculum
    from npt_viz.training.losses.weighting import STAGE_STEPS

    session = st.session_state
    for name, term in TERMS.items():
        session[f"training_on_{name}"] = name in objective.active
        session[f"training_weight_{name}"] = objective.active.get(name, term.weight)
        session[f"training_form_{name}"] = objective.form(name)
    session["training_adaptive"] = objective.adaptive
    session["training_staged"] = objective.stage_steps is not None
    session["training_stage_steps"] = objective.stage_steps or STAGE_STEPS
    session["training_curriculum"] = objective.curriculum is not None
    stages = objective.curriculum or Curriculum()
    session["training_easy"], session["training_medium"] = stages.steps
    session["training_easy_quantile"], session["training_medium_quantile"] = stages.quantiles
    session["training_gradient_scale"] = objective.gradient_scale


def _use_preset() -> None:
    from npt_viz.training.losses.presets import PRESETS

    if chosen := st.session_state["training_preset"]:
        use(PRESETS[chosen])
        st.session_state["training_preset"] = None


def _row(name: str, term: "Term", reason: str | None, forms: Sequence[Form]) -> None:
    toggle, weight, form = st.columns([2.5, 1.2, 2.3], vertical_alignment="center", gap="small")
    toggle.toggle(
        name.replace("_", " "),
        key=f"training_on_{name}",
        disabled=reason is not None,
        persist_state="session",
        help=_help(term, reason, forms),
    )
    if not st.session_state[f"training_on_{name}"] or reason is not None:
        if reason is not None:
            weight.caption("off", help=plain(reason))
        return
    weight.number_input(
        f"Weight of {name}",
        0.0,
        None,
        step=None,
        key=f"training_weight_{name}",
        format="%g",
        label_visibility="collapsed",
        persist_state="session",
    )
    if len(term.forms) > 1:
        form.selectbox(
            f"Form of {name}",
            term.forms,
            key=f"training_form_{name}",
            format_func=lambda which: which.replace("_", " "),
            label_visibility="collapsed",
            persist_state="session",
        )


def _help(term: "Term", reason: str | None, forms: Sequence[Form]) -> str:
    """Formula and sentence of a loss, or why it cannot be had; safe Markdown."""
    if reason is not None:
        return f"**Off:** {plain(reason)}."
    where = " Runs the layers above." if term.needs == "logits" else ""
    here = [term.meanings[each.semantics.rule] for each in forms if each.semantics.rule in term.meanings]
    return f"{plain(term.formula)}\n\n{plain(term.sentence)}{where}" + (
        f" Here: {plain(here[0])}." if here else ""
    )

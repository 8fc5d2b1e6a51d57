"""Attribution page: the quantity that was chosen, and cached attributions of it."""

from dataclasses import asdict, replace

import streamlit as st

from npt_viz.question import Question
from npt_viz.results.attribution import METHODS, Attribution, Estimate, Method, Quantity
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import computed, on_demand
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.view import View

STRONGEST = "strongest"
"""The choice of the component that adds most at the pinned token, wherever that is."""

_DEFAULTS = {
    "attribution_kind": "scalar",
    "attribution_target": None,
    "attribution_component": STRONGEST,
    "attribution_model": "NPT",
    "attribution_of": None,
    "attribution_against": None,
    "attribution_methods": ["ablation"],
    "attribution_baseline": "eos",
    "attribution_steps": 128,
}
"""The page's own choices; None lets the page choose."""


def settled_quantity(view: View) -> Quantity:
    """Quantity that is attributed; a choice that this layer or token does not have is replaced."""
    session = st.session_state
    for name, default in _DEFAULTS.items():
        session.setdefault(name, default)
    layer = view.run.layers[view.layer]
    if session["attribution_target"] not in layer.scalars:
        session["attribution_target"] = next(iter(layer.scalars))
    target = session["attribution_target"]
    chosen = session["attribution_component"]
    if chosen != STRONGEST and chosen >= max(1, layer.scalars[target].shape[1]):
        chosen = session["attribution_component"] = STRONGEST
    ids = candidate_tokens(view)
    if session["attribution_of"] not in ids:
        session["attribution_of"] = next(iter(ids))
    if session["attribution_against"] not in (None, *ids):
        session["attribution_against"] = None
    kind = session["attribution_kind"]
    if kind == "logit":
        of, against = session["attribution_of"], session["attribution_against"]
        return Quantity(
            kind=kind, token=view.token, model=session["attribution_model"], token_id=of, against=against
        )
    # A component that adds nothing here would have no answer worth reading.
    component = strongest_component(view, target)[0] if chosen == STRONGEST else chosen
    return Quantity(
        kind=kind,
        token=view.token,
        layer=view.layer,
        target=target,
        component=component if kind == "scalar" else 0,
    )


def strongest_component(view: View, target: str) -> tuple[int, float]:
    """The component that adds most at the pinned token, and its share of the components' ‖s_j v_b,j‖."""
    layer = view.run.layers[view.layer]
    effects, strongest = (
        layer.component_effects[target][view.token],
        layer.strongest_component(target, view.token),
    )
    total = float(effects.sum())
    return strongest, float(effects[strongest]) / total if total > 0 else float("nan")


def candidate_tokens(view: View) -> dict[int, str]:
    """Next tokens that either model finds likely after the pinned one: id -> glyph."""
    rows = [*view.run.base_top.rows(view.token), *view.run.npt_top.rows(view.token)]
    return {token_id: glyph for glyph, token_id, _ in rows}


@st.cache_data(max_entries=128, show_spinner="Timing one run of the prompt")
def _estimate(asked: Asked, quantity: Quantity, method: str, steps: int) -> Estimate:
    from npt_viz.analysis.attribution import estimate

    model, checkpoint = opened.opened(asked.selection)
    return estimate(model, checkpoint, _of_tokens(asked), quantity, [method], steps=steps)


def _of_tokens(asked: Asked) -> Question:
    """The question with the prompt as the token ids that were inspected."""
    ids = opened.inspection(asked).token_ids
    return replace(asked.question, prompt=tuple(ids), chat=False, bos="auto")


def _key(asked: Asked, quantity: Quantity, method: str, steps: int, baseline: str) -> tuple:
    return (
        "attribution",
        asked,
        quantity,
        method,
        steps if method == "integrated_gradients" else 0,
        baseline,
    )


def known_attributions(view: View, quantity: Quantity) -> list[Attribution]:
    """Attributions by the chosen methods that are already computed."""
    session = st.session_state
    settings = session["attribution_steps"], session["attribution_baseline"]
    keys = [_key(view.asked, quantity, method, *settings) for method in session["attribution_methods"]]
    return [attribution for key in keys if (attribution := computed(key)) is not None]


def attribution_by(view: View, quantity: Quantity, method: Method) -> Attribution | None:
    """Attribution by one method; None until it was asked for. Raises NptVizError where it has no meaning."""
    from npt_viz.analysis.attribution import attribution

    asked, session = view.asked, st.session_state
    model, checkpoint = opened.opened(asked.selection)
    steps, baseline = session["attribution_steps"], session["attribution_baseline"]
    cost = _estimate(asked, quantity, method, steps)

    def compute(progress) -> Attribution:
        return attribution(
            model,
            checkpoint,
            _of_tokens(asked),
            quantity,
            method=method,
            baseline=baseline,
            steps=steps,
            progress=progress,
        )

    label = f"Run {METHODS[method].label} ({cost.forwards:,} forward passes of {cost.seconds_each:.2g} s)"
    key = _key(asked, quantity, method, steps, baseline)
    return on_demand(key, label, cost.seconds, compute, key=f"attribution_{method}")


def choices(view: View) -> dict[str, object]:
    """Arguments of `reproducing.script("attribution", …)` that stand for the page's controls."""
    session = st.session_state
    return {
        "quantity": asdict(settled_quantity(view)),
        "methods": session["attribution_methods"],
        "baseline": session["attribution_baseline"],
        "steps": session["attribution_steps"],
    }

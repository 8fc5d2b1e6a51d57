"""The Attribution page: which number, by which methods, at what cost; the scores as a strip, as bars and in a table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.attribution import score_scale, scores_by_method, shown_scores
from npt_viz.figures.theme import number
from npt_viz.question import Question
from npt_viz.results.attribution import METHODS, Attribution, Estimate, Quantity, rank_correlation
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import computed, on_demand
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.strip import token_strip
from npt_viz.ui.widgets.view import View

KINDS = {"scalar": "scalar v_a·x", "update_norm": "‖ΔW‖", "logit": "next-token logit"}
STEPS = (64, 128, 256, 512)

_DEFAULTS = {
    "attribution_kind": "scalar",
    "attribution_target": None,
    "attribution_component": 0,
    "attribution_model": "NPT",
    "attribution_of": None,
    "attribution_against": None,
    "attribution_methods": ["ablation"],
    "attribution_baseline": "eos",
    "attribution_steps": 128,
}
"""The page's own choices; None lets the page choose."""


def answer(view: View) -> str:
    """What drives the number that was asked about most, as soon as that is known."""
    quantity = _settled(view)
    found = [each for each in _known(view, quantity) if each.problem is None and each.strongest is not None]
    if not found:
        where = f"{code(view.run.tokens[view.token])} #{view.token}"
        return f"Nothing is known yet about what drives the {KINDS[quantity.kind]} at {where}."
    first = found[0]
    token = first.strongest
    verb = "raises" if first.scores[token] > 0 else "lowers"
    return (
        f"{plain(first.name[0].upper() + first.name[1:])} is **{number(first.value)}**; "
        f"{code(first.tokens[token])} #{token} {verb} it most, by **{number(abs(first.scores[token]))}** "
        f"({METHODS[first.method].label}, {first.quantity.token} tokens asked, stand-in {code(first.baseline)})."
    )


def choices(view: View) -> None:
    """Which number, against which baseline, by which methods."""
    quantity = _settled(view)
    place = st.columns([2.4, 1.2, 1.6, 1.6], vertical_alignment="bottom")
    place[0].segmented_control(
        "Attribute", list(KINDS), key="attribution_kind", format_func=KINDS.get, required=True,
        persist_state="session", width="stretch",
    )  # fmt: skip
    if quantity.kind == "logit":
        _logit_choices(view, place)
    else:
        scalars = view.run.layers[view.layer].scalars
        place[1].selectbox("Target", list(scalars), key="attribution_target", persist_state="session")
        if quantity.kind == "scalar":
            place[2].selectbox(
                "Component",
                range(max(1, scalars[quantity.target].shape[1])),
                key="attribution_component",
                persist_state="session",
            )
    left, right = st.columns([5, 1.3], vertical_alignment="bottom")
    left.pills(
        "Methods",
        list(METHODS),
        key="attribution_methods",
        selection_mode="multi",
        format_func=lambda name: METHODS[name].label,
        persist_state="session",
        help="\n\n".join(f"**{info.label}**: {info.meaning}." for info in METHODS.values())
        + "\n\nMethods disagree; only an ablation is a run that really happened.",
    )
    _settings(right)


def results(view: View) -> list[Attribution]:
    """The chosen methods' results, those that have been asked for; draws what they cost and why one is missing."""
    quantity, found = _settled(view), []
    methods = st.session_state["attribution_methods"]
    if not methods:
        st.info("Choose a method.")
    known = len(_known(view, quantity))
    for method in methods:
        try:
            result = _result(view, quantity, method)
        except NptVizError as error:
            st.info(plain(str(error)))
            return []
        if result is not None and result.problem:
            st.info(plain(result.problem))
        elif result is not None:
            found.append(result)
    if len(_known(view, quantity)) > known:
        st.rerun()  # The answer stands above, and now there is one.
    return found


def pictures(view: View, found: list[Attribution]) -> None:
    """The strip in the first method's colours, the bars of all, and what their numbers are worth."""
    first = found[0]
    token_strip(
        view.run.pieces,
        shown_scores(first),
        score_scale(first, view.theme),
        key="attribution_strip",
        pinned=view.token,
        on_pin=state.pin,
        columns={METHODS[each.method].label: shown_scores(each) for each in found},
    )
    figure = scores_by_method(found, pin=view.token, shown=shown(view), theme=view.theme)
    chart(figure, key="attribution_bars", on_click=lambda bar: state.pin(int(bar[0])))
    st.caption(
        f"{plain(first.name)}. Token 0 keeps its place in every baseline; tokens after the pin come later than the "
        "number and score exactly 0."
    )
    st.dataframe(_table(found), hide_index=True, height="content")
    for note in dict.fromkeys(note for each in found for note in each.notes):
        st.caption(plain(note))


def frame(found: list[Attribution]) -> pd.DataFrame:
    """One row a token, one column a method."""
    first = found[0]
    return pd.DataFrame(
        {"token": np.arange(len(first.tokens)), "glyph": first.tokens}
        | {each.method: each.scores for each in found}
    )


def _table(found: list[Attribution]) -> pd.DataFrame:
    """How far each method can be believed."""
    rows = []
    for each in found:
        row = {
            "method": METHODS[each.method].label,
            "value": number(each.value),
            "all replaced": number(each.baseline_value),
            "sum of scores": number(float(each.scores.sum())),
            "delta": "–" if np.isnan(each.delta) else f"{each.relative_delta:.1%}",
        }
        row |= {
            f"rank correlation with {METHODS[other.method].label}": number(rank_correlation(each, other))
            for other in found
            if len(found) > 1
        }
        rows.append(row | {"forwards": f"{each.forwards:,}", "seconds": number(each.seconds)})
    return pd.DataFrame(rows)


def _result(view: View, quantity: Quantity, method: str) -> Attribution | None:
    from npt_viz.analysis.attribution import attribution

    asked, here = view.asked, st.session_state
    model, checkpoint = opened.opened(asked.source)
    steps, baseline = here["attribution_steps"], here["attribution_baseline"]
    cost = _estimate(asked, quantity, method, steps)

    def compute(progress) -> Attribution:
        return attribution(
            model,
            checkpoint,
            _question(asked),
            quantity,
            method=method,
            baseline=baseline,
            steps=steps,
            progress=progress,
        )

    label = f"Run {METHODS[method].label} ({cost.forwards:,} forward passes of {cost.seconds_each:.2g} s)"
    key = _key(asked, quantity, method, steps, baseline)
    return on_demand(key, label, cost.seconds, compute, key=f"attribution_{method}")


@st.cache_data(max_entries=128, show_spinner="Timing one run of the prompt")
def _estimate(asked: Asked, quantity: Quantity, method: str, steps: int) -> Estimate:
    from npt_viz.analysis.attribution import estimate

    model, checkpoint = opened.opened(asked.source)
    return estimate(model, checkpoint, _question(asked), quantity, [method], steps=steps)


def _question(asked: Asked) -> Question:
    """The question with the prompt as the token ids that were inspected."""
    ids = opened.inspection(asked).token_ids
    return replace(asked.question, prompt=tuple(ids), chat=False, bos="auto")


def _known(view: View, quantity: Quantity) -> list[Attribution]:
    here = st.session_state
    settings = here["attribution_steps"], here["attribution_baseline"]
    keys = [_key(view.asked, quantity, method, *settings) for method in here["attribution_methods"]]
    return [found for key in keys if (found := computed(key)) is not None]


def _key(asked: Asked, quantity: Quantity, method: str, steps: int, baseline: str) -> tuple:
    return (
        "attribution",
        asked,
        quantity,
        method,
        steps if method == "integrated_gradients" else 0,
        baseline,
    )


def _settled(view: View) -> Quantity:
    """The number that is asked about; a choice that this layer or token does not have is replaced."""
    here = st.session_state
    for name, default in _DEFAULTS.items():
        here.setdefault(name, default)
    found = view.run.layers[view.layer]
    if here["attribution_target"] not in found.scalars:
        here["attribution_target"] = next(iter(found.scalars))
    target = here["attribution_target"]
    if here["attribution_component"] >= max(1, found.scalars[target].shape[1]):
        here["attribution_component"] = 0
    ids = _candidates(view)
    if here["attribution_of"] not in ids:
        here["attribution_of"] = next(iter(ids))
    if here["attribution_against"] not in (None, *ids):
        here["attribution_against"] = None
    kind = here["attribution_kind"]
    if kind == "logit":
        of, against = here["attribution_of"], here["attribution_against"]
        return Quantity(
            kind=kind, token=view.token, model=here["attribution_model"], token_id=of, against=against
        )
    component = here["attribution_component"] if kind == "scalar" else 0
    return Quantity(kind=kind, token=view.token, layer=view.layer, target=target, component=component)


def _candidates(view: View) -> dict[int, str]:
    """Next tokens that either model finds likely after the pinned one: id -> glyph."""
    rows = [*view.run.base_top.rows(view.token), *view.run.npt_top.rows(view.token)]
    return {token_id: glyph for glyph, token_id, _ in rows}


def _logit_choices(view: View, place) -> None:
    ids = _candidates(view)
    place[1].selectbox("Of the model", ["NPT", "base"], key="attribution_model", persist_state="session")
    place[2].selectbox(
        "Logit of", list(ids), key="attribution_of", format_func=ids.get, persist_state="session"
    )
    place[3].selectbox(
        "minus that of",
        [None, *ids],
        key="attribution_against",
        format_func=lambda token_id: "nothing" if token_id is None else ids[token_id],
        persist_state="session",
        help="Next tokens that base or NPT model finds likely. A difference leaves out what lifts all logits alike.",
    )


def _settings(place) -> None:
    with place.popover("Settings", width="stretch"):
        st.segmented_control(
            "Stand-in",
            ["eos", "pad"],
            key="attribution_baseline",
            required=True,
            persist_state="session",
            help="The token that takes another's place. Token 0, the attention sink, is never replaced.",
        )
        st.select_slider(
            "Steps of integrated gradients", STEPS, key="attribution_steps", persist_state="session"
        )

"""Permanent update page: the update at many strengths, and the window of those that are usable."""

from typing import TYPE_CHECKING

import streamlit as st

from npt_viz.editing.cases import BUILT_IN
from npt_viz.figures import editing as figures
from npt_viz.results.sentences.editing import strengths as strengths_in_words
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import on_demand
from npt_viz.ui.edit.permanent_update.controls import take
from npt_viz.ui.edit.permanent_update.state import (
    answer_text,
    asked_prompt,
    lines,
    requested,
    seconds_of,
    state_of,
    update_of,
)
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.view import View

if TYPE_CHECKING:
    from npt_viz.editing.judging.preview import UpdatePreview

HEIGHT = 262
"""Pixels of the chart: what the first screen leaves."""

SHOWN_FACT = next(case for case in BUILT_IN if "Germany" in case.prompt)
"""A fact whose update changes what the demo checkpoints say."""


def strength(view: View, preview: "UpdatePreview") -> None:
    """Sweep over strengths; a click on a point takes its strength."""
    title, fact, settings = st.columns([2.2, 1.5, 1.6], vertical_alignment="center")
    title.markdown("**Other strengths**", help="A click on a point takes its α.")
    if not st.session_state["edit_new"].strip():
        fact.button(
            "Try a fact",
            key="edit_try",
            on_click=guarded_callback(take),
            args=[SHOWN_FACT],
            type="tertiary",
            icon=":material/lightbulb:",
            help=f"Asks about “{plain(SHOWN_FACT.source)}”, whose answer is known.",
        )
    with settings.popover("What should follow", width="stretch"):
        _settings()
    new, old = wanted(view, preview)
    prompt, unrelated = asked_prompt(view.asked), lines(st.session_state["edit_unrelated"])
    unrelated = tuple(line for line in unrelated if line != prompt.strip())
    ledger, update = edits.ledger(view.selection), update_of(requested(view))
    largest, n = st.session_state["edit_largest"], st.session_state["edit_strengths"]

    def compute(progress):
        from npt_viz.editing.judging.sweep import alpha_sweep, default_alphas

        return alpha_sweep(
            ledger.model,
            update,
            prompt,
            new,
            old,
            alphas=default_alphas(float(largest), n),
            unrelated=unrelated,
            ledger=ledger,
            progress=lambda stage, share: progress(round(100 * share), 100),
        )

    asked = ("sweep", view.selection, state_of(view, update), prompt, new, old, unrelated, largest, n)
    seconds = seconds_of(view, n + 1, 180)
    sweep = on_demand(asked, f"Try {n} strengths", seconds, compute, key="edit_sweep")
    if sweep is None:
        return
    figure = figures.sweep(
        sweep, alpha=float(st.session_state["edit_alpha"]), height=HEIGHT, theme=view.theme
    )
    chart(figure, key="edit_sweep_chart", on_click=_take_alpha)
    st.caption(markdown(strengths_in_words(sweep)))


def wanted(view: View, preview: "UpdatePreview") -> tuple[str, str | None]:
    """(what should follow, what should no longer): as given, else what the context or the update makes the model say."""
    session = st.session_state
    old = answer_text(session["edit_old"]) if session["edit_old"].strip() else None
    if session["edit_new"].strip():
        return answer_text(session["edit_new"]), old
    before = preview.before.next_tokens[0][1]
    said = [*(preview.recovery.top[:1] if preview.recovery else ()), *preview.after.next_tokens[:2]]
    new = next(token for _, token, _ in said if token != before)
    return opened.opened_model(*view.selection.base).tokenizer.decode([new]), old


def _settings() -> None:
    st.text_input(
        "Should follow",
        key="edit_new",
        persist_state="session",
        placeholder="what the context makes it say",
        help="Empty: what the model says with the context, or else what the update makes it say.",
    )
    st.text_input(
        "Should no longer follow",
        key="edit_old",
        persist_state="session",
        placeholder="what the model says now",
    )
    st.select_slider("Up to α =", [1, 3, 10, 30, 100], key="edit_largest", persist_state="session")
    st.segmented_control("Strengths", [21, 41], key="edit_strengths", required=True, persist_state="session")


def _take_alpha(alpha) -> None:
    value = alpha[0] if isinstance(alpha, list) else alpha
    st.session_state["edit_alpha"] = float(value)

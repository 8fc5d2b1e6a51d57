"""Permanent update page: the answer, and the update's effect on the prompt."""

from collections.abc import Callable

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import colour_scale, number
from npt_viz.results.editing import rank_changes
from npt_viz.results.inspection import Metric
from npt_viz.ui.cache.on_demand import on_demand, seconds_per_token
from npt_viz.ui.edit.permanent_update.panels_scores import leakage, scorecard, weights
from npt_viz.ui.edit.permanent_update.panels_strength import strength
from npt_viz.ui.edit.permanent_update.state import (
    effect_in_words,
    preview_of,
    requested,
    settle,
    state_of,
    tokens_of_interest,
)
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.tables import Cell, next_token_table, table
from npt_viz.ui.widgets.token_view import first_choices, token_view, token_view_data
from npt_viz.ui.widgets.view import View

MOVED = Metric(
    "KL(before ‖ after)", "nats", "how far the next-token prediction moves; 0 is unchanged", 0.0, False
)

LISTED, MOST_LISTED = 5, 8
"""Ranks up to which a candidate is listed, and candidates in the list."""

PREDICTED_AFTER_EDIT = (
    "**Double counting.** An NPT layer on top of edited weights adds its modulation again: at the source token an "
    "update made from that modulation counts twice. Run the edited layers as standard layers, or do not write."
)


def answer(view: View) -> str:
    """Effect of the update in a sentence."""
    settle(view)
    try:
        preview = preview_of(requested(view))
    except NptVizError as error:
        return plain(str(error))
    sentence = markdown(effect_in_words(view, preview))
    same = [
        entry.number
        for entry in edits.entries(view.selection)
        if entry.update.digest() == preview.update.digest()
    ]
    if same:
        sentence += f" It is in the ledger already (#{same[-1]}): this is what writing it once more would do."
    return sentence


def effect(view: View) -> None:
    """Candidates before and after, beside what other strengths would do."""
    preview = preview_of(requested(view))
    with st.container(key="main_figure"):
        left, right = st.columns([5, 6], gap="medium")
        with left:
            st.markdown(f"**After** {code(preview.prompt)}")
            _candidates(view, preview)
            _recovery(preview)
        with right, guarded():
            strength(view, preview)


def _candidates(view: View, preview) -> None:
    interesting = tokens_of_interest(view.asked)
    rows = rank_changes(preview.before, preview.after, interesting)
    shown = [row for row in rows if row.id in interesting or min(row.rank_before, row.rank_after) <= LISTED]
    next_token_table(shown[:MOST_LISTED], sides=("before", "after"), label="next token, before and after")


def judge(view: View) -> None:
    """One closer look at the update; without one chosen nothing is computed."""
    views: dict[str, Callable[[View], None]] = {
        "Along the prompt": along_the_prompt,
        "NPT on and off": npt_on,
        "What both sides write": written,
        "Scorecard": scorecard,
        "Leakage": leakage,
        "In the weights": weights,
    }
    chosen = st.segmented_control("Look closer", list(views), key="edit_view", persist_state="session")
    if chosen in views:
        views[chosen](view)


def along_the_prompt(view: View) -> None:
    """KL at every token of the prompt, and what both sides would say there."""
    preview = preview_of(requested(view))
    data = token_view_data(
        preview.pieces,
        preview.after.kl[None],
        colour_scale(MOVED, preview.after.kl, view.theme),
        layers=[0],
        layer=0,
        names=["edited model"],
        columns={
            MOVED.label: preview.after.kl,
            "next, before": first_choices(preview.before.top),
            "next, after": first_choices(preview.after.top),
        },
        parts=("strip", "profile"),
        channel="edited",
    )
    token_view(data, key="edit_prompt_view", on_pin=lambda token, layer: None)
    for note in preview.notes:
        st.caption(plain(note))


def _recovery(preview) -> None:
    recovery = preview.recovery
    if recovery is None:
        st.caption(
            "Give a prompt without the context to see how much of the context's effect the update recovers."
        )
        return
    top = ", ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in recovery.top[:3])
    st.caption(
        f"With the context: {top}. KL to that: {number(recovery.kl_plain)} nats before, "
        f"{number(recovery.kl_updated)} after.",
        help="Recovered is 1 − KL(with context ‖ edited, without context) / KL(with context ‖ plain, without context), "
        "at the last token.",
    )


def npt_on(view: View) -> None:
    """Predictions of the edited weights with NPT layers on top, and without."""
    preview = preview_of(requested(view))
    if preview.npt_before is None or preview.npt_after is None:
        st.caption("There is no NPT model to run on the edited weights here.")
        return
    sides = (
        ("NPT off, before", preview.before),
        ("NPT off, after", preview.after),
        ("NPT on, before", preview.npt_before),
        ("NPT on, after", preview.npt_after),
    )
    rows: list[dict[str, Cell]] = [
        {
            "model": name,
            "says": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in outcome.next_tokens[:4]),
            "KL from before, nats": float(outcome.kl[-1]),
        }
        for name, outcome in sides
    ]
    st.markdown("**With the edited layers as NPT layers, and without**", help=PREDICTED_AFTER_EDIT)
    table(rows, label="NPT on and off", code=("says",))


def written(view: View) -> None:
    """Continuations of the prompt by both sides."""
    preview = preview_of(requested(view))
    left, right = st.columns(2)
    n_tokens = left.slider("Tokens", 8, 96, 32, 8, key="edit_n_tokens")
    seed = int(right.number_input("Seed", 0, key="edit_seed"))
    ledger = edits.ledger(view.selection)

    def compute(progress):
        from npt_viz.editing.judging.preview import continuations

        after = [*ledger.updates, preview.update]
        return continuations(ledger.model, ledger.updates, after, preview.prompt, tokens=n_tokens, seed=seed)

    seconds = 4 * n_tokens * 6 * seconds_per_token(view.selection)
    asked = ("continuations", view.selection, state_of(view, preview.update), preview.prompt, n_tokens, seed)
    texts = on_demand(asked, "Write", seconds, compute, key="edit_continuations")
    for column, side in zip(st.columns(2), ("before", "after"), strict=True):
        column.markdown(f"**{side}**")
        for text in (each for each in texts or () if each.name == side):
            column.caption(plain(text.style))
            column.code(text.text, language=None, wrap_lines=True)

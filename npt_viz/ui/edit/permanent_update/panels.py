"""Permanent update page: the answer, and the update's effect on the prompt."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures import editing as figures
from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import colour_scale, number
from npt_viz.results.editing import rank_changes
from npt_viz.results.inspection import Metric
from npt_viz.results.sentences.editing import update as sentence_of
from npt_viz.ui.cache.on_demand import on_demand, seconds_per_token
from npt_viz.ui.edit.permanent_update.panels_scores import leakage, scorecard, strength, weights
from npt_viz.ui.edit.permanent_update.state import preview_of, requested, settle, state_of, tokens_of_interest
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.strip import first_choices, token_strip
from npt_viz.ui.widgets.view import View

MOVED = Metric(
    "KL(before ‖ after)", "nats", "how far the next-token prediction moves; 0 is unchanged", 0.0, False
)

PREDICTED_AFTER_EDIT = (
    "**Double counting.** An NPT layer on top of edited weights adds its modulation again: at the source token an "
    "update made from that modulation counts twice. Run the edited layers as standard layers, or do not write."
)


def answer(view: View) -> str:
    """Effect of the update in a sentence."""
    settle(view)
    chosen = requested(view)
    try:
        preview = preview_of(chosen)
    except NptVizError as error:
        return plain(str(error))
    sources = tuple((view.run.tokens[token], token) for token in preview.update.origins[0].tokens)
    sentence = markdown(
        sentence_of(
            sources, tuple(chosen.layers), preview.update.alpha, preview.pieces, preview.before, preview.after,
            preview.recovery,
        )
    )  # fmt: skip
    same = [
        entry.number
        for entry in edits.entries(view.selection)
        if entry.update.digest() == preview.update.digest()
    ]
    if same:
        sentence += f" It is in the ledger already (#{same[-1]}): this is what writing it once more would do."
    return sentence


def judge(view: View) -> None:
    """One view of the update's effect; the others compute nothing."""
    views: dict[str, Callable[[View], None]] = {
        "Before and after": before_and_after,
        "Strength": strength,
        "Scorecard": scorecard,
        "Leakage": leakage,
        "In the weights": weights,
    }
    chosen = st.segmented_control(
        "Judge it by",
        list(views),
        key="edit_view",
        default="Before and after",
        required=True,
        persist_state="session",
    )
    views[chosen or "Before and after"](view)


def before_and_after(view: View) -> None:
    """Candidates, KL along the prompt, NPT on and off, and what both sides write."""
    preview = preview_of(requested(view))
    scale = colour_scale(MOVED, preview.after.kl, view.theme)
    token_strip(
        preview.pieces,
        preview.after.kl,
        scale,
        key="edit_strip",
        pinned=None,
        on_pin=lambda token: None,
        columns={
            MOVED.label: preview.after.kl,
            "next, before": first_choices(preview.before.top),
            "next, after": first_choices(preview.after.top),
        },
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("**Next token, before and after**")
        rows = rank_changes(preview.before, preview.after, tokens_of_interest(view.asked))
        chart(figures.next_tokens(rows, sides=("before", "after"), theme=view.theme), key="edit_next")
    with right:
        st.markdown("**KL along the prompt**")
        glyphs = [piece.glyph for piece in preview.pieces]
        chart(token_profile(preview.after.kl, tokens=glyphs, scale=scale), key="edit_kl")
        _recovery(preview)
    if preview.npt_after is not None:
        _npt_on(preview)
    _continuations(view, preview)
    for note in preview.notes:
        st.caption(plain(note))


def _recovery(preview) -> None:
    recovery = preview.recovery
    if recovery is None:
        st.caption(
            "Give a prompt without the context to see how much of the context's effect the update recovers."
        )
        return
    top = ", ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in recovery.top[:4])
    st.markdown(
        f"**{recovery.recovered:.0%} of the context recovered**  \nKL to the model with the context: "
        f"{number(recovery.kl_plain)} nats before, {number(recovery.kl_updated)} after. With the context it says {top}.",
        help="1 − KL(with context ‖ edited, without context) / KL(with context ‖ plain, without context), at the last token.",
    )


def _npt_on(preview) -> None:
    sides = (
        ("NPT off, before", preview.before),
        ("NPT off, after", preview.after),
        ("NPT on, before", preview.npt_before),
        ("NPT on, after", preview.npt_after),
    )
    rows = [
        {
            "": name,
            "says": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in outcome.next_tokens[:4]),
            "KL from before, nats": number(float(outcome.kl[-1])),
        }
        for name, outcome in sides
    ]
    st.markdown("**With the edited layers as NPT layers, and without**", help=PREDICTED_AFTER_EDIT)
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")


def _continuations(view: View, preview) -> None:
    with st.expander("What both sides write", key="edit_written", on_change="rerun") as box:
        if not box.open:
            return
        n_tokens = st.slider("Tokens", 8, 96, 32, 8, key="edit_n_tokens")
        seed = int(st.number_input("Seed", 0, key="edit_seed"))
        ledger = edits.ledger(view.selection)

        def compute(progress):
            from npt_viz.editing.judging.preview import continuations

            after = [*ledger.updates, preview.update]
            return continuations(
                ledger.model, ledger.updates, after, preview.prompt, tokens=n_tokens, seed=seed
            )

        seconds = 4 * n_tokens * 6 * seconds_per_token(view.selection)
        asked = (
            "continuations",
            view.selection,
            state_of(view, preview.update),
            preview.prompt,
            n_tokens,
            seed,
        )
        texts = on_demand(asked, "Write", seconds, compute, key="edit_continuations")
        for column, side in zip(st.columns(2), ("before", "after"), strict=True):
            column.markdown(f"**{side}**")
            for text in (each for each in texts or () if each.name == side):
                column.caption(plain(text.style))
                column.code(text.text, language=None, wrap_lines=True)

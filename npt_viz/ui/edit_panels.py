"""What the Permanent update page shows of an update: its effect, its strengths, its scores, its leakage, its weights."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.figures import editing as figures
from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import colour_scale, number
from npt_viz.results.editing import rank_changes
from npt_viz.results.inspection import Metric
from npt_viz.ui import edits, opened
from npt_viz.ui import permanent_update as page
from npt_viz.ui.charts import chart
from npt_viz.ui.on_demand import on_demand, seconds_per_token
from npt_viz.ui.strip import token_strip
from npt_viz.ui.text import code, plain
from npt_viz.ui.view import View

MOVED = Metric(
    "KL(before ‖ after)", "nats", "how far the next-token prediction moves; 0 is unchanged", 0.0, False
)

PREDICTED_AFTER_EDIT = (
    "**Double counting.** An NPT layer on top of edited weights adds its modulation again: at the source token an "
    "update made from that modulation counts twice. Run the edited layers as standard layers, or do not write."
)


def judge(view: View) -> None:
    """One view of the update at a time; the others compute nothing."""
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
    found = page.preview_of(page.wanted(view))
    scale = colour_scale(MOVED, found.after.kl, view.theme)
    token_strip(
        found.pieces,
        found.after.kl,
        scale,
        key="edit_strip",
        pinned=None,
        on_pin=lambda token: None,
        columns={
            MOVED.label: found.after.kl,
            "next, before": _first(found.before),
            "next, after": _first(found.after),
        },
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("**Next token, before and after**")
        rows = rank_changes(found.before, found.after, page.tokens_of_interest(view.asked))
        chart(figures.next_tokens(rows, sides=("before", "after"), theme=view.theme), key="edit_next")
    with right:
        st.markdown("**KL along the prompt**")
        glyphs = [piece.glyph for piece in found.pieces]
        chart(token_profile(found.after.kl, tokens=glyphs, scale=scale), key="edit_kl")
        _recovery(found)
    if found.npt_after is not None:
        _npt_on(found)
    _continuations(view, found)
    for note in found.notes:
        st.caption(plain(note))


def _recovery(found) -> None:
    recovery = found.recovery
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


def _npt_on(found) -> None:
    sides = (
        ("NPT off, before", found.before),
        ("NPT off, after", found.after),
        ("NPT on, before", found.npt_before),
        ("NPT on, after", found.npt_after),
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


def _continuations(view: View, found) -> None:
    with st.expander("What both sides write", key="edit_written", on_change="rerun") as box:
        if not box.open:
            return
        n_tokens = st.slider("Tokens", 8, 96, 32, 8, key="edit_n_tokens")
        seed = int(st.number_input("Seed", 0, key="edit_seed"))
        ledger = edits.ledger(view.asked.source)

        def compute(progress):
            from npt_viz.editing.preview import continuations

            after = [*ledger.updates, found.update]
            return continuations(
                ledger.model, ledger.updates, after, found.prompt, tokens=n_tokens, seed=seed
            )

        seconds = 4 * n_tokens * 6 * seconds_per_token(view.asked.source)
        asked = ("continuations", view.asked.source, _state(view, found), found.prompt, n_tokens, seed)
        texts = on_demand(asked, "Write", seconds, compute, key="edit_continuations")
        for column, side in zip(st.columns(2), ("before", "after"), strict=True):
            column.markdown(f"**{side}**")
            for text in (each for each in texts or () if each.name == side):
                column.caption(plain(text.style))
                column.code(text.text, language=None, wrap_lines=True)


def strength(view: View) -> None:
    """Many strengths at once; a click on a point takes it."""
    new, old = st.columns(2)
    new.text_input("Should follow", key="edit_new", persist_state="session", placeholder="Rome")
    old.text_input(
        "Should no longer follow",
        key="edit_old",
        persist_state="session",
        placeholder="what the model says now",
    )
    case = page.case_of(view.asked)
    chosen, ledger = page.wanted(view), edits.ledger(view.asked.source)
    update = page.update_of(chosen)
    largest = st.select_slider(
        "Up to α =", [1, 3, 10, 30, 100], value=10, key="edit_largest", persist_state="session"
    )

    def compute(progress):
        from npt_viz.editing.sweep import alpha_sweep, default_alphas

        return alpha_sweep(
            ledger.model,
            update,
            case.prompt,
            case.new,
            case.old,
            alphas=default_alphas(float(largest)),
            unrelated=case.unrelated,
            ledger=ledger,
            progress=lambda stage, share: progress(round(100 * share), 100),
        )

    asked = ("sweep", view.asked.source, _state(view, update), case, largest)
    found = on_demand(asked, "Try 41 strengths", _seconds(view, 42, 180), compute, key="edit_sweep")
    if found is None:
        return
    window = (
        "No strength is usable: none makes the new token win and leaves the rest alone."
        if found.window is None
        else f"Usable: **α = {found.window[0]:.3g} to {found.window[1]:.3g}**."
    )
    st.markdown(
        f"{window} Usable means {code(found.new[0])} beats {code(found.old[0])}, unrelated prompts move by at most "
        f"{found.kl_limit:g} nats, and perplexity grows by at most {found.perplexity_limit - 1:.0%}."
    )
    figure = figures.sweep(found, alpha=float(st.session_state["edit_alpha"]), theme=view.theme)
    chart(figure, key="edit_sweep_chart", on_click=_take_alpha)
    st.caption("A click on a point takes its α.")


def _take_alpha(alpha) -> None:
    value = alpha[0] if isinstance(alpha, list) else alpha
    st.session_state["edit_alpha"] = float(value)


def scorecard(view: View) -> None:
    """Does it answer, in other words too, and does everything else stay?"""
    with st.expander(
        "The fact and the prompts that judge it", expanded=not st.session_state["edit_new"].strip()
    ):
        _case_fields()
        page.load_cases()
    case = page.case_of(view.asked)
    chosen, ledger = page.wanted(view), edits.ledger(view.asked.source)
    update = page.update_of(chosen).at(float(st.session_state["edit_alpha"]))

    def compute(progress):
        from npt_viz.editing.scorecard import scorecard

        return scorecard(ledger.model, ledger.updates, [*ledger.updates, update], case)

    asked = ("scorecard", view.asked.source, _state(view, update), case)
    seconds = _seconds(view, 2, 250 + 20 * (2 + len(case.paraphrases) + len(case.unrelated)))
    card = on_demand(asked, "Score it", seconds, compute, key="edit_scorecard")
    if card is None:
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chart(figures.scores(card, theme=view.theme), key="edit_scores")
    with right:
        st.metric(
            "Harmonic score",
            number(card.harmonic()),
            help="Harmonic mean of the parts; 0 as soon as one is 0.",
        )
        st.metric("Harmonic, new over old", number(card.harmonic(preferred=True)))
        st.metric(
            "Perplexity, neutral text",
            f"{card.after_perplexity:.1f}",
            f"{card.perplexity_ratio - 1:+.1%} of {card.before_perplexity:.1f}",
            delta_color="inverse",
            help=f"{card.n_neutral_tokens} tokens; mean KL {number(card.neutral_kl)} nats.",
        )
    st.caption("Bars end at the share, whiskers at Wilson's 95 % interval: with few prompts it is wide.")
    rows = [
        {
            "part": row.part,
            "prompt": row.prompt,
            "expected": row.expected,
            "says": row.predicted,
            "as expected": row.hit,
            "new over old, nats": "" if np.isnan(row.margin) else f"{row.margin:+.2f}",
            "KL, nats": number(row.kl),
        }
        for row in card.prompts
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")


def _case_fields() -> None:
    for name, label, rows in (
        ("edit_paraphrases", "Paraphrases, one a line (generalisation)", 90),
        ("edit_unrelated", "Unrelated prompts, one a line (locality)", 120),
        ("edit_consequences", "Consequences, prompt => answer, one a line (portability)", 70),
    ):
        st.text_area(label, key=name, height=rows, persist_state="session")
    left, right = st.columns(2)
    left.text_input("Should follow", key="edit_new", persist_state="session", placeholder="Rome")
    right.text_input(
        "Should no longer follow",
        key="edit_old",
        persist_state="session",
        placeholder="what the model says now",
    )


def leakage(view: View) -> None:
    """The effect on the tokens of ordinary text, for three keys."""
    chosen = page.wanted(view)

    def compute(progress):
        from dataclasses import replace

        from npt_viz.editing.leakage import leakage

        model, checkpoint = opened.opened(view.asked.source)
        return leakage(
            model,
            checkpoint,
            page.text_of(view.asked),
            layer=view.layer,
            token=chosen.tokens,
            rule=replace(chosen.settings(), name="npt"),
        )

    asked = ("leakage", chosen._replace(rule="", layers=(view.layer,)))
    found = on_demand(asked, "Measure leakage", _seconds(view, 1, 4000), compute, key="edit_leakage")
    if found is None:
        return
    targets = list(dict.fromkeys(each.parameter for each in found))
    parameter = st.segmented_control(
        "Weight",
        targets,
        key="edit_leakage_of",
        default=targets[0],
        required=True,
        format_func=lambda p: p.split(".")[-2],
    )
    shown = [each for each in found if each.parameter == (parameter or targets[0])]
    chart(figures.leakage(shown, theme=view.theme), key="edit_leakage_chart")
    st.caption(
        f"{len(shown[0].leakage):,} tokens of reference text, other than the text that whitens; sinks left out. "
        "A smaller leak costs a larger ‖ΔW‖."
    )
    rows = [
        {
            "rule": each.rule.replace("_", " "),
            "rms effect elsewhere": number(each.rms),
            "‖ΔW‖": number(each.update_norm),
            "hit most": "  ·  ".join(
                f"…{hit.before}[{hit.glyph}] {hit.leakage:+.2f}" for hit in each.hit_most[:4]
            ),
        }
        for each in shown
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")


def weights(view: View) -> None:
    """Requested against realised ΔW of ledger and update together, in every dtype."""
    from npt_viz.editing.realised import edit_report

    ledger = edits.ledger(view.asked.source)
    update = page.update_of(page.wanted(view)).at(float(st.session_state["edit_alpha"]))
    report = edit_report(ledger.model, [*ledger.updates, update])
    rows = [
        {
            "weight": edit.parameter,
            "dtype": edit.dtype,
            "‖ΔW‖": number(edit.requested_norm),
            "‖ΔW‖ / ‖W‖": number(edit.relative_norm),
            "realised ‖ΔW‖": number(edit.realised_norm),
            "cosine": f"{edit.cosine:.3f}",
            "entries changed": f"{edit.changed:.1%}",
            "finite": "yes" if edit.finite else "NO",
        }
        for edit in report.edits
    ]
    st.markdown(
        "**Requested and realised ΔW**, ledger and update together",
        help="Adding a small ΔW to a bfloat16 weight is lossy: most entries do not move at all. The preview adds in "
        "float32; a LoRA export keeps ΔW apart.",
    )
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
    chart(figures.singular_values(report, theme=view.theme), key="edit_singular")


def _state(view: View, update) -> tuple:
    """What a result depends on: the ledger and the update, by their digests."""
    updates = edits.ledger(view.asked.source).updates
    return (*(each.digest() for each in updates), getattr(update, "update", update).digest())


def _seconds(view: View, lanes: int, n_tokens: int) -> float:
    """A rough estimate: lanes share what is below the layer."""
    model = edits.ledger(view.asked.source).model
    above = 1 - min(view.layers) / model.n_layers
    return seconds_per_token(view.asked.source) * n_tokens * (1 + lanes * above)


def _first(outcome) -> list[str]:
    return [
        f"{row[0]} {p:.2f}"
        for row, p in zip(outcome.top.glyphs, np.asarray(outcome.top.probabilities)[:, 0], strict=True)
    ]

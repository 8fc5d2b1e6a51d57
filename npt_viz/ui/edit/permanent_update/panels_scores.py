"""Permanent update page: the update judged by scores, leakage and realised weights."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.editing.cases import cases_from_text
from npt_viz.errors import NptVizError
from npt_viz.figures import editing as figures
from npt_viz.figures.theme import number
from npt_viz.results.sentences.editing import leakage as leakage_in_words
from npt_viz.results.sentences.editing import realised as realised_in_words
from npt_viz.results.sentences.editing import scorecard as scorecard_in_words
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import on_demand
from npt_viz.ui.edit.permanent_update.state import (
    case_of,
    requested,
    seconds_of,
    state_of,
    text_of,
    update_of,
)
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.text import markdown
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.view import View


def scorecard(view: View) -> None:
    """Scorecard: reliability, paraphrases, locality, and drift on neutral text."""
    with st.expander(
        "The fact and the prompts that judge it", expanded=not st.session_state["edit_new"].strip()
    ):
        _case_fields()
        _load_cases()
    case = case_of(view.asked)
    chosen, ledger = requested(view), edits.ledger(view.selection)
    update = update_of(chosen).at(float(st.session_state["edit_alpha"]))

    def compute(progress):
        from npt_viz.editing.judging.scorecard import scorecard

        return scorecard(ledger.model, ledger.updates, [*ledger.updates, update], case)

    asked = ("scorecard", view.selection, state_of(view, update), case)
    seconds = seconds_of(view, 2, 250 + 20 * (2 + len(case.paraphrases) + len(case.unrelated)))
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
    st.caption(markdown(scorecard_in_words(card)))
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
    st.caption("What should follow, and what should not, stands above the chart of strengths.")


def _load_cases() -> None:
    """Facts from a file of the user's own."""
    file = st.file_uploader("Load facts (JSONL or CSV)", type=["jsonl", "csv"], key="edit_upload")
    if file is None:
        return
    try:
        content = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NptVizError(f"{file.name} is no UTF-8 text; save it as UTF-8") from None
    cases = cases_from_text(content, file.name, is_csv=file.name.lower().endswith(".csv"))
    st.session_state["_edit_cases"] = cases
    st.caption(f"{len(cases)} fact{'s' * (len(cases) != 1)} loaded: take one from the list above.")


def leakage(view: View) -> None:
    """Leakage: effect on the tokens of ordinary text, for three keys."""
    chosen = requested(view)

    def compute(progress):
        from dataclasses import replace

        from npt_viz.editing.judging.leakage import leakage

        model, checkpoint = opened.opened(view.selection)
        return leakage(
            model,
            checkpoint,
            text_of(view.asked),
            layer=view.layer,
            token=chosen.tokens,
            rule=replace(chosen.settings(), name="npt"),
        )

    asked = ("leakage", chosen._replace(rule="", layers=(view.layer,)))
    leaks = on_demand(asked, "Measure leakage", seconds_of(view, 1, 4000), compute, key="edit_leakage")
    if leaks is None:
        return
    targets = list(dict.fromkeys(each.parameter for each in leaks))
    parameter = st.segmented_control(
        "Weight",
        targets,
        key="edit_leakage_of",
        default=targets[0],
        required=True,
        format_func=lambda p: p.split(".")[-2],
    )
    shown = [each for each in leaks if each.parameter == (parameter or targets[0])]
    chart(figures.leakage(shown, theme=view.theme), key="edit_leakage_chart")
    question = view.asked.question
    st.caption(markdown(leakage_in_words(shown, mode=question.mode, positions=question.positions)))
    st.caption("The reference text is other than the text that whitens.")
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
    """Requested and realised ΔW of ledger and update together, in every dtype."""
    from npt_viz.editing.realised import edit_report

    ledger = edits.ledger(view.selection)
    update = update_of(requested(view)).at(float(st.session_state["edit_alpha"]))
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
    st.caption(markdown(realised_in_words(report)))
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
    chart(figures.singular_values(report, theme=view.theme), key="edit_singular")

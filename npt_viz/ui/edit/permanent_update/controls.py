"""Permanent update page: a fact to begin with, strength, what is written, where to look, and Apply."""

import streamlit as st

from npt_viz.editing.cases import BUILT_IN, Case
from npt_viz.errors import NptVizError
from npt_viz.ui.cache import opened
from npt_viz.ui.edit.permanent_update.state import (
    last_sentence,
    n_components,
    record_applied,
    requested,
    update_of,
)
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.guarded import guarded_callback, problem
from npt_viz.ui.widgets.view import View

RULES = {
    "npt": "NPT: the token's own modulation",
    "exact": "exact: the closed form that replaces attention",
    "minimum_norm": "minimum norm: same effect, smallest key",
    "whitened": "whitened: same effect, key that other texts read least",
}

TOKENS = {"pinned": "the pinned token", "several": "several tokens", "all": "mean over all tokens"}

READS = {"z_C": "z_C, as the edited layer reads", "z": "z, as the NPT layer reads"}


def choices(view: View) -> None:
    """Controls of the update in a line: fact, prompt of the effect, strength, what is written, Apply."""
    fact, prompt, strength, settings, apply = st.columns(
        [2.2, 2.8, 1.4, 1.5, 1.1], vertical_alignment="bottom"
    )
    with fact:
        _facts(view)
    prompt.text_input(
        "Look at the effect on",
        key="edit_prompt",
        persist_state="session",
        placeholder=last_sentence(view.asked.text),
        help="Usually the source without its context: does the edited model know it now? Empty: its last sentence.",
    )
    strength.number_input(
        "Strength α",
        key="edit_alpha",
        step=0.5,
        format="%g",
        persist_state="session",
        help="1 writes ΔW as it is. The chart below tries many and marks the usable ones; a click on it takes one.",
    )
    with settings.popover("What is written", width="stretch"):
        _settings(view)
    apply.button(
        "Apply",
        key="edit_apply",
        type="primary",
        icon=":material/add:",
        on_click=_apply,
        args=[view],
        width="stretch",
        help="To the ledger, which the head counts and undoes. The base stays as it is; previews and exports are then "
        "base + ledger.",
    )
    if sentence := st.session_state.pop("_edit_problem", None):
        problem(sentence)


def _settings(view: View) -> None:
    st.selectbox("Rule", list(RULES), key="edit_rule", format_func=RULES.__getitem__, persist_state="session")
    st.selectbox(
        "Tokens", list(TOKENS), key="edit_tokens", format_func=TOKENS.__getitem__, persist_state="session"
    )
    if st.session_state["edit_tokens"] == "several":
        st.multiselect(
            "Selection tokens",
            range(len(view.run.pieces)),
            key="edit_several",
            format_func=lambda token: f"#{token} {view.run.tokens[token]}",
            persist_state="session",
            placeholder="None chosen: the pinned token",
        )
    st.toggle(
        "All layers",
        key="edit_all_layers",
        persist_state="session",
        help=f"Write into every layer that runs as NPT ({', '.join(map(str, view.layers))}) and not into {view.layer} only.",
    )
    if count := n_components(view):
        st.multiselect(
            "Components",
            range(count),
            key="edit_components",
            persist_state="session",
            placeholder="all",
            help="Which rank-1 parts of each token's modulation are written.",
        )
    st.segmented_control(
        "Several tokens",
        ["mean", "sum"],
        key="edit_combine",
        required=True,
        persist_state="session",
        help="Of ΔW, not of v_a and v_b: their mean is another matrix.",
    )
    st.selectbox(
        "Keys and projection act on",
        list(READS),
        key="edit_reads",
        format_func=READS.__getitem__,
        persist_state="session",
    )
    st.text_area(
        "Prompts that must not notice, one a line",
        key="edit_protect",
        persist_state="session",
        height=90,
        help="v_a is projected off everything that the edited layers read in them.",
    )


def _facts(view: View) -> None:
    cases = {case.prompt: case for case in (*BUILT_IN, *st.session_state.get("_edit_cases", ()))}
    st.selectbox(
        "Fact",
        list(cases),
        index=None,
        key="edit_fact",
        placeholder="Take a fact",
        on_change=_take_chosen,
        args=[cases],
        help="A context that tells it, the prompt that asks, paraphrases and unrelated prompts. Ten are built in; "
        "load your own under Scorecard.",
    )


@guarded_callback
def _take_chosen(cases: dict[str, Case]) -> None:
    case = cases.get(st.session_state["edit_fact"] or "")
    if case is not None:
        take(case)


def take(case: Case) -> None:
    """Ask about a fact: its source becomes the prompt, its last token the pin."""
    model = opened.opened_model(*selection().base)
    last = len(model.tokenizer(case.source)["input_ids"]) - 1
    st.session_state.update(
        prompt=case.source,
        tok=last,
        chat=False,
        bos="auto",
        edit_fact=None,
        edit_prompt=case.prompt,
        edit_new=case.new,
        edit_old=case.old or "",
        edit_paraphrases="\n".join(case.paraphrases),
        edit_unrelated="\n".join(case.unrelated),
        edit_consequences="\n".join(
            f"{prompt} => {expected.strip()}" for prompt, expected in case.consequences
        ),
    )


@guarded_callback
def _apply(view: View) -> None:
    # The head, which counts the ledger, stands outside what a click here draws anew.
    st.session_state["_draw_all"] = True
    try:
        update = update_of(requested(view)).at(float(st.session_state["edit_alpha"]))
        record_applied(view)  # What it does is measured on the ledger without it.
        edits.apply(view.selection, update)
    except NptVizError as error:
        st.session_state["_edit_problem"] = str(error)

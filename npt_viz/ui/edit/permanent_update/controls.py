"""Permanent update page: a fact to begin with, rule, strength, tokens, and where to look."""

import streamlit as st

from npt_viz.editing.cases import BUILT_IN, Case
from npt_viz.ui.cache import opened
from npt_viz.ui.edit.permanent_update.state import last_sentence, n_components
from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.guarded import guarded_callback
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
    """Controls of the update: fact, prompt of the effect, rule, strength, tokens and layers."""
    left, middle, right = st.columns([2.4, 4, 1.8], vertical_alignment="bottom")
    with left:
        _facts(view)
    middle.text_input(
        "Look at the effect on",
        key="edit_prompt",
        persist_state="session",
        placeholder=last_sentence(view.asked.text),
        help="Usually the source without its context: does the edited model know it now? Empty: its last sentence.",
    )
    with right.popover("What is written", width="stretch", icon=":material/tune:"):
        _settings(view)
    place = st.columns([3, 1.3, 1.6, 1.2], vertical_alignment="bottom")
    place[0].selectbox(
        "Rule", list(RULES), key="edit_rule", format_func=RULES.__getitem__, persist_state="session"
    )
    place[1].number_input(
        "Strength α",
        key="edit_alpha",
        step=0.5,
        format="%g",
        persist_state="session",
        help="1 writes ΔW as it is. The Strength view tries many and marks the usable ones.",
    )
    place[2].selectbox(
        "Tokens", list(TOKENS), key="edit_tokens", format_func=TOKENS.__getitem__, persist_state="session"
    )
    place[3].toggle(
        "All layers",
        key="edit_all_layers",
        persist_state="session",
        help=f"Write into every layer that runs as NPT ({', '.join(map(str, view.layers))}) and not into {view.layer} only.",
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


def _settings(view: View) -> None:
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
        on_change=_take,
        args=[cases],
        help="A context that tells it, the prompt that asks, paraphrases and unrelated prompts. Ten are built in; "
        "load your own under Scorecard.",
    )


@guarded_callback
def _take(cases: dict[str, Case]) -> None:
    case = cases.get(st.session_state["edit_fact"] or "")
    if case is None:
        return
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

"""The Permanent update page: what is to be written, the question it is judged by, and its preview."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from npt_viz.editing.cases import BUILT_IN, UNRELATED, Case, cases_from_text
from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.ui import edits, opened
from npt_viz.ui.opened import Asked
from npt_viz.ui.sidebar import source
from npt_viz.ui.text import code, plain
from npt_viz.ui.view import View

if TYPE_CHECKING:
    from npt_viz.editing.preview import UpdatePreview
    from npt_viz.editing.updates import Update

RULES = {
    "npt": "NPT: the token's own modulation",
    "exact": "exact: the closed form that replaces attention",
    "minimum_norm": "minimum norm: same effect, smallest key",
    "whitened": "whitened: same effect, key that other texts read least",
}
TOKENS = {"pinned": "the pinned token", "several": "several tokens", "all": "mean over all tokens"}
READS = {"z_C": "z_C, as the edited layer reads", "z": "z, as the NPT layer reads"}

DEFAULTS = {
    "edit_rule": "npt",
    "edit_alpha": 1.0,
    "edit_tokens": "pinned",
    "edit_several": [],
    "edit_combine": "mean",
    "edit_components": [],
    "edit_reads": "z_C",
    "edit_all_layers": False,
    "edit_protect": "",
    "edit_prompt": "",
    "edit_new": "",
    "edit_old": "",
    "edit_paraphrases": "",
    "edit_unrelated": "\n".join(UNRELATED),
    "edit_consequences": "",
}
"""The page's own choices."""


class Wanted(NamedTuple):
    """What is to be written, as plain values; the strength is apart, because ΔW does not depend on it."""

    asked: Asked
    layers: tuple[int, ...]
    tokens: tuple[int, ...] | str
    rule: str
    combine: str
    components: tuple[int, ...] | None
    reads: str
    protect: tuple[str, ...]

    def settings(self):
        """As the library takes them."""
        from npt_viz.editing.rules import UpdateRule

        return UpdateRule(
            name=self.rule,
            combine=self.combine,
            components=self.components,
            reads=self.reads,
            protect=self.protect,
            mode=self.asked.mode,
            positions=self.asked.positions,
        )


def settle(view: View) -> None:
    """Before any widget is drawn: defaults, and no choice that this prompt or layer does not have."""
    here = st.session_state
    for name, default in DEFAULTS.items():
        here.setdefault(name, default)
    here["edit_several"] = [token for token in here["edit_several"] if token < len(view.run.pieces)]
    here["edit_components"] = [j for j in here["edit_components"] if j < n_components(view)]


def n_components(view: View) -> int:
    """Of the layer's modulation; 0 where it is no sum of rank-1 updates."""
    return max((scalars.shape[1] for scalars in view.run.layers[view.layer].scalars.values()), default=0)


def wanted(view: View) -> Wanted:
    """What the controls say."""
    here = st.session_state
    tokens = {"pinned": (view.token,), "several": tuple(here["edit_several"]) or (view.token,), "all": "all"}
    return Wanted(
        view.asked,
        tuple(view.layers) if here["edit_all_layers"] else (view.layer,),
        tokens[here["edit_tokens"]],
        here["edit_rule"],
        here["edit_combine"],
        tuple(sorted(here["edit_components"])) or None,
        here["edit_reads"],
        tuple(_lines(here["edit_protect"])),
    )


@st.cache_data(max_entries=64, show_spinner="Making the update")
def update_of(wanted: Wanted) -> "Update":
    from npt_viz.editing.making import update_from

    model, checkpoint = opened.opened(wanted.asked.source)
    return update_from(
        model,
        checkpoint,
        text_of(wanted.asked),
        layer=wanted.layers,
        token=wanted.tokens,
        rule=wanted.settings(),
    )


def text_of(asked: Asked) -> str | list[int]:
    """The source as text where that says it all, or else as the ids that the prompt's options make of it."""
    if not asked.chat and asked.bos == "auto":
        return asked.prompt
    return list(opened.inspection(asked).token_ids)


def preview_of(wanted: Wanted) -> "UpdatePreview":
    """Base + ledger before, with the update after, on the page's own prompt."""
    found = edits.ledger(wanted.asked.source)
    digests = tuple(update.digest() for update in found.updates)
    return _preview(wanted, float(st.session_state["edit_alpha"]), asked_prompt(wanted.asked), digests, found)


@st.cache_data(max_entries=64, show_spinner="Previewing the update")
def _preview(wanted: Wanted, alpha: float, prompt: str, ledger: tuple[str, ...], _found) -> "UpdatePreview":
    """ledger: the digests of the earlier updates, by which the answer is kept."""
    from npt_viz.editing.preview import preview

    model, checkpoint = opened.opened(wanted.asked.source)
    text = text_of(wanted.asked)
    return preview(
        model,
        update_of(wanted).at(alpha),
        prompt,
        checkpoint=checkpoint,
        context=text if isinstance(text, str) else None,
        ledger=_found,
    )


def asked_prompt(asked: Asked) -> str:
    """Where the effect is looked at: the page's own prompt, or the source's last sentence."""
    own = st.session_state["edit_prompt"]
    return own if own.strip() else last_sentence(asked.prompt)


def last_sentence(text: str) -> str:
    """What follows the last full stop, without the context before it."""
    _, stop, tail = text.rpartition(". ")
    return tail if stop and tail.strip() else text


def answer(view: View) -> str:
    """What the update does, in a sentence."""
    settle(view)
    chosen = wanted(view)
    try:
        found = preview_of(chosen)
    except NptVizError as error:
        return plain(str(error))
    glyphs = ", ".join(f"{code(view.run.tokens[t])} #{t}" for t in found.update.origins[0].tokens[:3])
    glyphs += " …" if len(found.update.origins[0].tokens) > 3 else ""
    before, after = found.before.next_tokens[0], found.after.next_tokens[0]
    says = (
        f"the most probable next token stays {code(after[0])} ({before[2]:.2f} → {after[2]:.2f})"
        if before[1] == after[1]
        else f"the most probable next token changes from {code(before[0])} to {code(after[0])} ({after[2]:.2f})"
    )
    layers = f"layer{'s' if len(chosen.layers) > 1 else ''} {', '.join(map(str, chosen.layers))}"
    sentence = (
        f"Writing the update of {glyphs} into {layers} at α = {found.update.alpha:g} moves the prediction after "
        f"{code(found.pieces[-1].glyph)} by KL **{number(found.kl)}** nats; {says}."
    )
    if found.recovery is not None:
        sentence += f" Without its context the edited model recovers **{found.recovery.recovered:.0%}** of what the context does."
    same = [
        entry.number
        for entry in edits.entries(view.asked.source)
        if entry.update.digest() == found.update.digest()
    ]
    if same:
        sentence += f" It is in the ledger already (#{same[-1]}): this is what writing it once more would do."
    return sentence


def controls(view: View) -> None:
    """Facts to begin with, rule and strength, and where the effect is looked at."""
    left, middle, right = st.columns([2.4, 4, 1.8], vertical_alignment="bottom")
    with left:
        _facts(view)
    middle.text_input(
        "Look at the effect on",
        key="edit_prompt",
        persist_state="session",
        placeholder=last_sentence(view.asked.prompt),
        help="Usually the source without its context: does the edited model know it now? Empty: its last sentence.",
    )
    with right.popover("What is written", width="stretch", icon=":material/tune:"):
        _settings(view)
    place = st.columns([3, 1.3, 1.6, 1.2], vertical_alignment="bottom")
    place[0].selectbox("Rule", list(RULES), key="edit_rule", format_func=RULES.get, persist_state="session")
    place[1].number_input(
        "Strength α",
        key="edit_alpha",
        step=0.5,
        format="%g",
        persist_state="session",
        help="1 writes ΔW as it is. The Strength view tries many and marks the usable ones.",
    )
    place[2].selectbox(
        "Tokens", list(TOKENS), key="edit_tokens", format_func=TOKENS.get, persist_state="session"
    )
    place[3].toggle(
        "All layers",
        key="edit_all_layers",
        persist_state="session",
        help=f"Write into every layer that runs as NPT ({', '.join(map(str, view.layers))}) and not into {view.layer} only.",
    )
    if st.session_state["edit_tokens"] == "several":
        st.multiselect(
            "Source tokens",
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
        format_func=READS.get,
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
    known = {case.prompt: case for case in (*BUILT_IN, *st.session_state.get("_edit_cases", ()))}
    st.selectbox(
        "Fact",
        list(known),
        index=None,
        key="edit_fact",
        placeholder="Take a fact",
        on_change=_take,
        args=[known],
        help="A context that tells it, the prompt that asks, paraphrases and unrelated prompts. Ten are built in; "
        "load your own under Scorecard.",
    )


def _take(known: dict[str, Case]) -> None:
    case = known.get(st.session_state["edit_fact"] or "")
    if case is None:
        return
    model = opened.opened_model(*source().base)
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


def tokens_of_interest(asked: Asked) -> dict[int, str]:
    """id -> glyph of what should follow and what should no longer, as far as the page knows."""
    from npt_viz.editing.sweep import first_token
    from npt_viz.model.tokens import display_token

    model = opened.opened_model(*asked.source.base)
    texts = [st.session_state[name] for name in ("edit_new", "edit_old") if st.session_state[name].strip()]
    ids = [first_token(model, answer_text(text)) for text in texts]
    return {i: display_token(model.tokenizer, i).glyph for i in ids}


def case_of(asked: Asked) -> Case:
    """The fact as the page's fields have it. Raises NptVizError where what should follow is not given."""
    here = st.session_state
    if not here["edit_new"].strip():
        raise NptVizError("say what should follow the prompt, or take a built-in fact")
    return Case(
        context=asked.prompt,
        prompt=asked_prompt(asked),
        new=answer_text(here["edit_new"]),
        old=answer_text(here["edit_old"]) if here["edit_old"].strip() else None,
        paraphrases=tuple(_lines(here["edit_paraphrases"])),
        unrelated=tuple(_lines(here["edit_unrelated"])),
        consequences=tuple(
            (left.strip(), answer_text(right))
            for line in _lines(here["edit_consequences"])
            for left, arrow, right in [line.partition("=>")]
            if arrow and left.strip() and right.strip()
        ),
    )


def answer_text(text: str) -> str:
    """A continuation begins with the space that most tokenizers put in front of a word."""
    return text if text[:1].isspace() else " " + text


def load_cases() -> None:
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


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]

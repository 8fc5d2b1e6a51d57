"""Permanent update page: what is to be written, the fact it is judged by, its cached preview."""

from dataclasses import fields
from typing import TYPE_CHECKING, Literal, NamedTuple

import streamlit as st

from npt_viz.editing.cases import UNRELATED, Case
from npt_viz.errors import NptVizError
from npt_viz.figures.thumbnail import profile
from npt_viz.reproducing import Beneath
from npt_viz.results.editing import kept_tables
from npt_viz.results.sentences import Exact, Sentence, said
from npt_viz.results.sentences.editing import update as sentence_of
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import seconds_per_token
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.recording import record
from npt_viz.ui.widgets.view import View
from npt_viz.workspace.numbers import packed_tables

if TYPE_CHECKING:
    from npt_viz.editing.judging.preview import UpdatePreview
    from npt_viz.editing.making.readings import Reads
    from npt_viz.editing.making.rules import RuleName
    from npt_viz.editing.updates import Update

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
    "edit_largest": 10,
    "edit_strengths": 21,
}
"""The page's own choices."""

keeping.keep_all(DEFAULTS)


class UpdateRequest(NamedTuple):
    """Update to be made, as plain values; without its strength, on which ΔW does not depend."""

    asked: Asked
    layers: tuple[int, ...]
    tokens: tuple[int, ...] | str
    rule: "RuleName"
    combine: Literal["mean", "sum"]
    components: tuple[int, ...] | None
    reads: "Reads"
    protect: tuple[str, ...]

    def settings(self):
        """The rule with its settings."""
        from npt_viz.editing.making.rules import UpdateRule

        return UpdateRule(
            name=self.rule,
            combine=self.combine,
            components=self.components,
            reads=self.reads,
            protect=self.protect,
            mode=self.asked.question.mode,
            positions=self.asked.question.positions,
        )


def settle(view: View) -> None:
    """Set defaults before any widget is drawn, and drop choices that this prompt or layer does not have."""
    session = st.session_state
    keeping.settle(*DEFAULTS)
    session["edit_several"] = [token for token in session["edit_several"] if token < len(view.run.pieces)]
    session["edit_components"] = [j for j in session["edit_components"] if j < n_components(view)]


def n_components(view: View) -> int:
    """Number of components of the layer's modulation; 0 where it is no sum of rank-1 updates."""
    return max((scalars.shape[1] for scalars in view.run.layers[view.layer].scalars.values()), default=0)


def requested(view: View) -> UpdateRequest:
    """Update that the controls describe."""
    session = st.session_state
    tokens = {
        "pinned": (view.token,),
        "several": tuple(session["edit_several"]) or (view.token,),
        "all": "all",
    }
    return UpdateRequest(
        view.asked,
        tuple(view.layers) if session["edit_all_layers"] else (view.layer,),
        tokens[session["edit_tokens"]],
        session["edit_rule"],
        session["edit_combine"],
        tuple(sorted(session["edit_components"])) or None,
        session["edit_reads"],
        tuple(lines(session["edit_protect"])),
    )


@st.cache_data(max_entries=64, show_spinner="Making the update")
def update_of(request: UpdateRequest) -> "Update":
    """Update of a request, at strength 1. Raises NptVizError where it cannot be made."""
    from npt_viz.editing.making.from_source import update_from

    model, checkpoint = opened.opened(request.asked.selection)
    return update_from(
        model,
        checkpoint,
        text_of(request.asked),
        layer=request.layers,
        token=request.tokens,
        rule=request.settings(),
    )


def text_of(asked: Asked) -> str | list[int]:
    """Source prompt: text, or its token ids where the chat template or a forced BOS made them."""
    question = asked.question
    if isinstance(question.prompt, str) and not question.chat and question.bos == "auto":
        return question.prompt
    return list(opened.inspection(asked).token_ids)


def preview_of(request: UpdateRequest) -> "UpdatePreview":
    """Preview of the update on the page's own prompt: base + ledger before, with the update after."""
    ledger = edits.ledger(request.asked.selection)
    digests = tuple(update.digest() for update in ledger.updates)
    return _preview(
        request, float(st.session_state["edit_alpha"]), asked_prompt(request.asked), digests, ledger
    )


@st.cache_data(max_entries=64, show_spinner="Previewing the update")
def _preview(
    request: UpdateRequest, alpha: float, prompt: str, ledger: tuple[str, ...], _found
) -> "UpdatePreview":
    """ledger: the digests of the earlier updates, by which the answer is kept."""
    from npt_viz.editing.judging.preview import preview

    model, checkpoint = opened.opened(request.asked.selection)
    text = text_of(request.asked)
    return preview(
        model,
        update_of(request).at(alpha),
        prompt,
        checkpoint=checkpoint,
        context=text if isinstance(text, str) else None,
        ledger=_found,
    )


def effect_in_words(view: View, preview: "UpdatePreview") -> Sentence:
    """Effect of an update in a sentence."""
    update, origin = preview.update, preview.update.origins[0]
    sources = tuple((view.run.tokens[token], token) for token in origin.tokens)
    return sentence_of(
        sources, tuple(update.layers), update.alpha, preview.pieces, preview.before, preview.after, preview.recovery,
        mode=origin.mode, positions=origin.positions,
    )  # fmt: skip


def record_applied(view: View) -> None:
    """Put the update that is applied into the history, with what it does; without a preview there is nothing to say."""
    try:
        preview = preview_of(requested(view))
    except NptVizError:
        return
    update = preview.update
    layers = ", ".join(map(str, update.layers))
    tables = kept_tables(preview.next_tokens, preview.pieces, preview.after.kl)
    record(
        "edit",
        update.digest(),
        preview.prompt,
        title=said(
            f"{update.origins[0].rule} into layer {layers}, α {update.alpha:g}: ", Exact(preview.prompt)
        ),
        sentence=effect_in_words(view, preview),
        prompt=view.asked.text,
        thumbnail=profile(preview.after.kl),
        numbers=lambda with_text: packed_tables(tables, with_text=with_text),
        choices="edit_",
    )


def asked_prompt(asked: Asked) -> str:
    """Prompt on which the effect is looked at: the page's own, or the source's last sentence."""
    own = st.session_state["edit_prompt"]
    return own if own.strip() else last_sentence(asked.text)


def last_sentence(text: str) -> str:
    """Text after the last full stop: the question without its context."""
    _, stop, tail = text.rpartition(". ")
    return tail if stop and tail.strip() else text


def tokens_of_interest(asked: Asked) -> dict[int, str]:
    """Token id -> glyph of what should follow and of what should no longer, where given."""
    from npt_viz.editing.judging.sweep import first_token
    from npt_viz.model.tokens import display_token

    model = opened.opened_model(*asked.selection.base)
    texts = [st.session_state[name] for name in ("edit_new", "edit_old") if st.session_state[name].strip()]
    ids = [first_token(model, answer_text(text)) for text in texts]
    return {i: display_token(model.tokenizer, i).glyph for i in ids}


def case_of(asked: Asked) -> Case:
    """Fact in the page's fields. Raises NptVizError where what should follow is not given."""
    session = st.session_state
    if not session["edit_new"].strip():
        raise NptVizError("say what should follow the prompt, or take a built-in fact")
    prompt = asked_prompt(asked)
    return Case(
        context=asked.text,
        prompt=prompt,
        new=answer_text(session["edit_new"]),
        old=answer_text(session["edit_old"]) if session["edit_old"].strip() else None,
        paraphrases=tuple(lines(session["edit_paraphrases"])),
        # The edited prompt cannot be asked to stay as it is.
        unrelated=tuple(line for line in lines(session["edit_unrelated"]) if line.strip() != prompt.strip()),
        consequences=tuple(
            (left.strip(), answer_text(right))
            for line in lines(session["edit_consequences"])
            for left, arrow, right in [line.partition("=>")]
            if arrow and left.strip() and right.strip()
        ),
    )


def answer_text(text: str) -> str:
    """Continuation with the space in front that most tokenizers put before a word."""
    return text if text[:1].isspace() else " " + text


def lines(text: str) -> list[str]:
    """Lines that are not blank, trimmed."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def state_of(view: View, update: "Update") -> tuple:
    """Digests of the ledger's updates and of this one: what a result depends on."""
    updates = edits.ledger(view.selection).updates
    return (*(each.digest() for each in updates), update.digest())


def seconds_of(view: View, lanes: int, n_tokens: int) -> float:
    """A rough estimate: lanes share what is below the layer."""
    model = edits.ledger(view.selection).model
    above = 1 - min(view.layers) / model.n_layers
    return seconds_per_token(view.selection) * n_tokens * (1 + lanes * above)


def choices(view: View) -> dict[str, object]:
    """Arguments of `reproducing.script("permanent_update", …)` that stand for the page's controls."""
    from npt_viz.editing.making.rules import UpdateRule

    request, defaults = requested(view), UpdateRule()
    rule = {each.name: getattr(request.settings(), each.name) for each in fields(UpdateRule)}
    return {
        "layers": request.layers,
        "tokens": request.tokens,
        "prompt": asked_prompt(request.asked),
        "alpha": float(st.session_state["edit_alpha"]),
        "rule": {name: value for name, value in rule.items() if value != getattr(defaults, name)},
        "beneath": Beneath(digests=tuple(each.digest() for each in edits.ledger(view.selection).updates)),
    }

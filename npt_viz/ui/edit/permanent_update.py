"""The Permanent update page: what is to be written, the question it is judged by, and its preview."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from npt_viz.editing.cases import UNRELATED, Case
from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell import ledger_box as edits
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.widgets.view import View

if TYPE_CHECKING:
    from npt_viz.editing.judging.preview import UpdatePreview
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
        from npt_viz.editing.making.rules import UpdateRule

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
        tuple(lines(here["edit_protect"])),
    )


@st.cache_data(max_entries=64, show_spinner="Making the update")
def update_of(wanted: Wanted) -> "Update":
    from npt_viz.editing.making.from_source import update_from

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
    from npt_viz.editing.judging.preview import preview

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


def tokens_of_interest(asked: Asked) -> dict[int, str]:
    """id -> glyph of what should follow and what should no longer, as far as the page knows."""
    from npt_viz.editing.judging.sweep import first_token
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
    prompt = asked_prompt(asked)
    return Case(
        context=asked.prompt,
        prompt=prompt,
        new=answer_text(here["edit_new"]),
        old=answer_text(here["edit_old"]) if here["edit_old"].strip() else None,
        paraphrases=tuple(lines(here["edit_paraphrases"])),
        # The edited prompt cannot be asked to stay as it is.
        unrelated=tuple(line for line in lines(here["edit_unrelated"]) if line.strip() != prompt.strip()),
        consequences=tuple(
            (left.strip(), answer_text(right))
            for line in lines(here["edit_consequences"])
            for left, arrow, right in [line.partition("=>")]
            if arrow and left.strip() and right.strip()
        ),
    )


def answer_text(text: str) -> str:
    """A continuation begins with the space that most tokenizers put in front of a word."""
    return text if text[:1].isspace() else " " + text


def lines(text: str) -> list[str]:
    """Those that are not blank."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def state_of(view: View, update: "Update") -> tuple:
    """What a result depends on: the ledger and the update, by their digests."""
    updates = edits.ledger(view.asked.source).updates
    return (*(each.digest() for each in updates), update.digest())

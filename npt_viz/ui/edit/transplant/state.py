"""Transplant page: donor, receiver and operation, and the cached transplant."""

from typing import NamedTuple

import streamlit as st

from npt_viz.figures.theme import number
from npt_viz.figures.thumbnail import profile
from npt_viz.results.editing import kept_tables
from npt_viz.results.inspection import Metric, Token
from npt_viz.results.sentences import Exact, Quoted, said
from npt_viz.results.transplant import Transplant
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Asked, Selection
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.recording import record
from npt_viz.ui.widgets.view import View
from npt_viz.workspace.numbers import packed_tables

SHOWN_STRENGTH = 3.0
"""At 1 a single token's ΔW changes little; at 3 the demo checkpoints say something else."""

DEFAULTS = {
    "transplant_prompt": "The capital of Germany is",
    "transplant_token": None,
    "transplant_operation": "replace",
    "transplant_strength": SHOWN_STRENGTH,
    "transplant_all_layers": True,
}

keeping.keep_all(DEFAULTS)

KEPT = 20
"""Results in the list."""

LIST, CLEARED = "transplants", "transplants_cleared"
"""Names under which the owner keeps the list, and what was last cleared of it."""


MOVED = Metric(
    "KL(NPT ‖ transplanted)", "nats", "how far the next-token prediction moves; 0 is unchanged", 0.0, False
)
"""Colour of the receiving strip."""


class TransplantRequest(NamedTuple):
    """Transplant as plain values. The donor is the prompt of the head, its token the pinned one."""

    asked: Asked
    donor_token: int
    prompt: str
    token: int
    """-1 is the last one, wherever that is."""
    layers: tuple[int, ...]
    operation: str
    strength: float


def settle(view: View) -> None:
    """Set defaults before any widget is drawn, and drop a token that the receiving prompt does not have."""
    session = st.session_state
    keeping.settle(*DEFAULTS)
    if not session["transplant_prompt"].strip():
        session["transplant_prompt"] = DEFAULTS["transplant_prompt"]
    pinned = session["transplant_token"]
    if pinned is not None and not 0 <= pinned < len(_receiver(view.selection, session["transplant_prompt"])):
        session["transplant_token"] = None


def requested(view: View) -> TransplantRequest:
    """Transplant that the controls describe."""
    session = st.session_state
    return TransplantRequest(
        view.asked,
        view.token,
        session["transplant_prompt"],
        -1 if session["transplant_token"] is None else session["transplant_token"],
        tuple(view.layers) if session["transplant_all_layers"] else (view.layer,),
        session["transplant_operation"],
        float(session["transplant_strength"]),
    )


def choices(view: View) -> dict[str, object]:
    """Arguments of `reproducing.script("transplant", …)` that stand for the page's controls."""
    _, donor_token, prompt, token, layers, operation, strength = requested(view)
    return {
        "prompt": prompt,
        "layers": layers,
        "donor_token": donor_token,
        "token": token,
        "operation": operation,
        "strength": strength,
    }


@st.cache_data(max_entries=64, show_spinner="Transplanting")
def transplanted(request: TransplantRequest) -> Transplant:
    """Outcome of a transplant. Raises NptVizError where it cannot be done."""
    from npt_viz.editing.transplant import transplant

    model, checkpoint = opened.opened(request.asked.selection)
    return transplant(
        model,
        checkpoint,
        list(opened.inspection(request.asked).token_ids),
        request.prompt,
        layers=request.layers,
        donor_token=request.donor_token,
        token=request.token,
        operation=request.operation,
        strength=request.strength,
        mode=request.asked.question.mode,
        positions=request.asked.question.positions,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _receiver(selection: Selection, prompt: str) -> tuple[Token, ...]:
    """The receiving prompt's tokens."""
    from npt_viz.model.tokens import encode

    return encode(opened.opened_model(*selection.base), prompt).pieces


def receive_at(token: int) -> None:
    """Make this token of the second strip the receiver."""
    st.session_state["transplant_token"] = token


def receive(prompt: str) -> None:
    """Let another prompt receive; the token belonged to the one before."""
    st.session_state.update(transplant_prompt=prompt, transplant_token=None)


@guarded_callback
def keep(view: View) -> None:
    """Put the outcome on top of the list, once."""
    result = transplanted(requested(view))
    row = {
        "what": result.sentence,
        "prompt": st.session_state["transplant_prompt"],
        "donor": view.run.prompt,
        "checkpoint": view.run.checkpoint,
        "says": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in result.transplanted.next_tokens[:3]),
        "said before": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in result.npt.next_tokens[:3]),
        "KL at the token": number(float(result.transplanted.kl[result.token])),
        "KL at the end": number(float(result.transplanted.kl[-1])),
    }
    owner().put(LIST, [row, *(each for each in kept() if each != row)][:KEPT])
    _record(view, result)


def _record(view: View, result: Transplant) -> None:
    kl = result.transplanted.kl
    tables = kept_tables(result.next_tokens, result.pieces, kl)
    before, after = (outcome.next_tokens[0] for outcome in (result.npt, result.transplanted))
    record(
        "transplant",
        requested(view),
        title=said(Quoted(result.sentence)),
        bare=f"{result.operation} ({result.strength:g}) in layer {', '.join(map(str, result.layers))}",
        sentence=said(
            "After ", Exact(st.session_state["transplant_prompt"]), " the NPT model says ", Exact(before[0]),
            f" {before[2]:.2f} and with the transplant ", Exact(after[0]), f" {after[2]:.2f} (KL {number(float(kl[-1]))} nats "
            f"at the end, {number(float(kl[result.token]))} at the token).",
        ),
        prompt=view.asked.text,
        thumbnail=profile(kl),
        numbers=lambda with_text: packed_tables(tables, with_text=with_text),
        choices="transplant_",
    )  # fmt: skip


def kept() -> list[dict]:
    """Rows of the list, the newest first."""
    return owner().get(LIST) or []


def clear_kept() -> None:
    """Empty the list; `bring_back` undoes it."""
    owner().put(CLEARED, kept())
    owner().put(LIST, [])


def bring_back() -> None:
    """Put the rows back that the last clearing took, below what was kept since."""
    rows, taken = kept(), owner().get(CLEARED) or []
    owner().put(LIST, [*rows, *(row for row in taken if row not in rows)][:KEPT])
    owner().put(CLEARED, [])


def cleared() -> int:
    """Number of rows that can be brought back."""
    return len(owner().get(CLEARED) or [])

"""The Transplant page: a donor token, a token that receives its ΔW, and a list of results to compare."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures import editing as figures
from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import colour_scale, number
from npt_viz.results.inspection import Metric
from npt_viz.results.transplant import Transplant
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.strip import token_strip
from npt_viz.ui.widgets.view import View

MOVED = Metric(
    "KL(NPT ‖ transplanted)", "nats", "how far the next-token prediction moves; 0 is unchanged", 0.0, False
)

OPERATIONS = {
    "replace": "replace: the donor's ΔW in place of the token's own",
    "blend": "blend: (1 − strength) · own + strength · donor's",
    "add": "add: own + strength · donor's",
    "scale": "scale: strength · own, without the donor",
}
DEFAULTS = {
    "transplant_prompt": "The capital of Italy is",
    "transplant_token": None,
    "transplant_operation": "replace",
    "transplant_strength": 1.0,
    "transplant_all_layers": True,
}
KEPT = 20
"""Results in the list."""


class Wanted(NamedTuple):
    """One transplant, as plain values. The donor is the prompt of the sidebar, its token the pinned one."""

    asked: Asked
    donor_token: int
    prompt: str
    token: int
    """-1 is the last one, wherever that is."""
    layers: tuple[int, ...]
    operation: str
    strength: float


def settle(view: View) -> None:
    """Before any widget is drawn: defaults, and a token that the receiving prompt has."""
    here = st.session_state
    for name, default in DEFAULTS.items():
        here.setdefault(name, default)
    if not here["transplant_prompt"].strip():
        here["transplant_prompt"] = DEFAULTS["transplant_prompt"]
    pinned = here["transplant_token"]
    if pinned is not None and not 0 <= pinned < len(_receiver(view.asked.source, here["transplant_prompt"])):
        here["transplant_token"] = None


def wanted(view: View) -> Wanted:
    here = st.session_state
    return Wanted(
        view.asked,
        view.token,
        here["transplant_prompt"],
        -1 if here["transplant_token"] is None else here["transplant_token"],
        tuple(view.layers) if here["transplant_all_layers"] else (view.layer,),
        here["transplant_operation"],
        float(here["transplant_strength"]),
    )


@st.cache_data(max_entries=64, show_spinner="Transplanting")
def result(wanted: Wanted) -> Transplant:
    from npt_viz.editing.transplant import transplant

    model, checkpoint = opened.opened(wanted.asked.source)
    return transplant(
        model,
        checkpoint,
        list(opened.inspection(wanted.asked).token_ids),
        wanted.prompt,
        layers=wanted.layers,
        donor_token=wanted.donor_token,
        token=wanted.token,
        operation=wanted.operation,
        strength=wanted.strength,
        mode=wanted.asked.mode,
        positions=wanted.asked.positions,
    )


def answer(view: View) -> str:
    """What the transplant does to the receiving prompt, in a sentence."""
    try:
        settle(view)
        found = result(wanted(view))
    except NptVizError as error:
        return plain(str(error))
    before, after = found.npt.next_tokens[0], found.transplanted.next_tokens[0]
    says = (
        f"its most probable next token stays {code(after[0])} ({before[2]:.2f} → {after[2]:.2f})"
        if before[1] == after[1]
        else f"its most probable next token changes from {code(before[0])} to {code(after[0])} ({after[2]:.2f})"
    )
    here = f"{code(found.pieces[found.token].glyph)} #{found.token}"
    there = f"{code(found.donor_pieces[found.donor_token].glyph)} #{found.donor_token}"
    what = "Its own ΔW, scaled," if found.operation == "scale" else f"The ΔW of {there}"
    return (
        f"{what} at {here} moves the receiving prompt's prediction by KL **{number(float(found.transplanted.kl[-1]))}** "
        f"nats at its end; {says}."
    )


def receiver(view: View) -> None:
    """The receiving prompt, its tokens to choose from, and what is done there."""
    st.markdown(
        "**The receiving prompt**", help="The strip above is the donor: its pinned token gives its ΔW."
    )
    st.text_input(
        "Prompt that receives", key="transplant_prompt", persist_state="session", label_visibility="collapsed"
    )
    found = result(wanted(view))
    scale = colour_scale(MOVED, found.transplanted.kl, view.theme)
    token_strip(
        found.pieces,
        found.transplanted.kl,
        scale,
        key="transplant_strip",
        pinned=found.token,
        on_pin=_receive_at,
        columns={
            MOVED.label: found.transplanted.kl,
            "next, NPT": _first(found.npt),
            "next, transplanted": _first(found.transplanted),
        },
    )
    place = st.columns([4, 1.4, 2], vertical_alignment="bottom")
    place[0].selectbox(
        "Operation",
        list(OPERATIONS),
        key="transplant_operation",
        format_func=OPERATIONS.get,
        persist_state="session",
    )
    place[1].number_input(
        "Strength", key="transplant_strength", step=0.25, format="%g", persist_state="session"
    )
    place[2].toggle(
        "In all layers",
        key="transplant_all_layers",
        persist_state="session",
        help=f"In every layer that runs as NPT ({', '.join(map(str, view.layers))}), or in {view.layer} alone.",
    )


def _receive_at(token: int) -> None:
    st.session_state["transplant_token"] = token


def pictures(view: View) -> None:
    """Candidates, KL by position, and what each layer does by itself."""
    found = result(wanted(view))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("**Next token of the receiving prompt**")
        figure = figures.next_tokens(found.next_tokens, sides=("NPT", "transplanted"), theme=view.theme)
        chart(figure, key="transplant_next")
        base = " · ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in found.base.next_tokens[:4])
        donor = " · ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in found.donor_top[:4])
        st.caption(f"The base model says {base}.  \nAfter the donor's token the NPT model says {donor}.")
    with right:
        st.markdown("**KL by position**")
        scale = colour_scale(MOVED, found.transplanted.kl, view.theme)
        glyphs = [piece.glyph for piece in found.pieces]
        chart(
            token_profile(found.transplanted.kl, tokens=glyphs, scale=scale, pin=found.token),
            key="transplant_kl",
        )
        st.markdown("**Each layer alone**")
        layers, at_token, at_end = zip(*found.shares, strict=True)
        chart(figures.layer_shares(layers, at_token, at_end, theme=view.theme), key="transplant_layers")


def kept_results(view: View) -> None:
    """Results put aside, one a row, to compare."""
    st.button(
        "Keep this result", key="transplant_keep", icon=":material/playlist_add:", on_click=_keep, args=[view]
    )
    rows = st.session_state.get("_transplants", [])
    if not rows:
        return
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
    st.button("Clear the list", key="transplant_clear", type="tertiary", on_click=_clear)


def _keep(view: View) -> None:
    found = result(wanted(view))
    row = {
        "what": found.sentence,
        "prompt": st.session_state["transplant_prompt"],
        "donor": view.run.prompt,
        "checkpoint": view.run.checkpoint,
        "says": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in found.transplanted.next_tokens[:3]),
        "said before": " · ".join(f"{glyph} {p:.2f}" for glyph, _, p in found.npt.next_tokens[:3]),
        "KL at the token": number(float(found.transplanted.kl[found.token])),
        "KL at the end": number(float(found.transplanted.kl[-1])),
    }
    kept = st.session_state.setdefault("_transplants", [])
    st.session_state["_transplants"] = [row, *(each for each in kept if each != row)][:KEPT]


def _clear() -> None:
    st.session_state["_transplants"] = []


@st.cache_data(max_entries=64, show_spinner=False)
def _receiver(source, prompt: str) -> tuple:
    """The receiving prompt's tokens."""
    from npt_viz.model.tokens import encode

    return encode(opened.opened_model(*source.base), prompt).pieces


def _first(outcome) -> list[str]:
    probabilities = np.asarray(outcome.top.probabilities)[:, 0]
    return [f"{row[0]} {p:.2f}" for row, p in zip(outcome.top.glyphs, probabilities, strict=True)]

"""Transplant page: the answer, the outcome, and a list of results to compare."""

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures import editing as figures
from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import colour_scale
from npt_viz.results.sentences.editing import transplant as sentence_of
from npt_viz.ui.edit.transplant.state import (
    MOVED,
    bring_back,
    clear_kept,
    cleared,
    kept,
    requested,
    settle,
    transplanted,
)
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.tables import next_token_table, table
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Effect of the transplant on the receiving prompt, in a sentence."""
    try:
        settle(view)
        result = transplanted(requested(view))
    except NptVizError as error:
        return plain(str(error))
    return markdown(sentence_of(result))


def outcome(view: View) -> None:
    """Next tokens without and with the transplant, beside the effect of each layer alone."""
    result = transplanted(requested(view))
    with st.container(key="main_figure"):
        left, right = st.columns([5, 6], gap="medium")
        with left:
            st.markdown("**Next token of the receiver**")
            next_token_table(
                result.next_tokens[:8], sides=("NPT", "transplanted"), label="next token of the receiver"
            )
        with right:
            if len(result.shares) > 1:
                st.markdown("**Each layer alone**")
                layers, at_token, at_end = zip(*result.shares, strict=True)
                chart(
                    figures.layer_shares(layers, at_token, at_end, theme=view.theme), key="transplant_layers"
                )
            else:
                st.markdown("**KL by position**")
                scale = colour_scale(MOVED, result.transplanted.kl, view.theme)
                glyphs = [piece.glyph for piece in result.pieces]
                figure = token_profile(result.transplanted.kl, tokens=glyphs, scale=scale, pin=result.token)
                chart(figure, key="transplant_kl")
    base = " · ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in result.base.next_tokens[:4])
    donor = " · ".join(f"{code(glyph)} {p:.2f}" for glyph, _, p in result.donor_top[:4])
    st.caption(f"The base model says {base}. After the donor's token the NPT model says {donor}.")


def kept_results(view: View) -> None:
    """Table of the results that were put aside, to compare."""
    if rows := kept():
        table(rows, label="kept results")
        with st.popover("Clear the list", type="tertiary"):
            n = len(rows)
            st.button(
                f"Take {n} result{'s' * (n != 1)} off the list",
                key="transplant_clear",
                type="primary",
                on_click=clear_kept,
            )
    if taken := cleared():
        st.button(
            f"Cleared: bring {taken} result{'s' * (taken != 1)} back",
            key="transplant_bring_back",
            icon=":material/undo:",
            type="tertiary",
            on_click=bring_back,
        )

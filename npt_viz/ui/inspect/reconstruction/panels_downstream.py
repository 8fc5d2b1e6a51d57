"""Reconstruction page: predictions and continuations of the NPT model against the base."""

import streamlit as st

from npt_viz.figures import downstream as figures
from npt_viz.results.downstream import Downstream
from npt_viz.results.reconstruction import percent
from npt_viz.results.sentences.reconstruction import downstream as downstream_in_words
from npt_viz.results.sentences.reconstruction import positions as sentence_of
from npt_viz.ui.inspect.reconstruction.state import continuations_of, downstream_of, positions_compared
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.tables import Cell, table
from npt_viz.ui.widgets.view import View

TEXTS = ("this prompt", "reference text")


def downstream(view: View) -> None:
    """KL, perplexity and agreement of the whole NPT model, each layer alone and the cascade; with and without RoPE."""
    text = st.segmented_control("Text", TEXTS, key="reconstruction_text", required=True, default=TEXTS[0])
    result = downstream_of(view, text, view.question.positions)
    if result is None:
        return
    if result.problem:
        st.info(plain(result.problem))
    for arm in dict.fromkeys((result.whole.layers, (view.layer,))):
        st.markdown(markdown(downstream_in_words(result, result.arm(arm), text=text)))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            "**KL, with the modulation off and on**",
            help="Grey: the layers with their modulation off, that is without attention where the variant withholds it. "
            "Orange: this checkpoint. Beside the name: 1 − KL(NPT) / KL(off).",
        )
        chart(figures.kl_by_arm(result, view.theme), key="reconstruction_arms")
    with right:
        st.markdown("**Drift of the residual stream**", help="All NPT layers, by depth.")
        chart(figures.drift(result, view.theme), key="reconstruction_drift")
    if len(result.layers) > 1:
        st.markdown("**The cascade**", help="NPT layers switched on one after the other, from below.")
        chart(figures.cascade(result, view.theme), key="reconstruction_cascade")
    if text == "this prompt":
        _by_token(view, result)
    for note in result.notes:
        st.caption(plain(note))
    positions(view, text)


def _by_token(view: View, result: Downstream) -> None:
    st.markdown("**KL after each token, whole NPT model**", help="Dashes: with the modulation off.")
    drawn = shown(view)
    if drawn.start >= len(result.tokens):
        st.info(
            f"Only the first {len(result.tokens):,} tokens were run, and the pinned one lies behind them."
        )
        return
    figure = figures.kl_by_token(result, arm=result.whole, shown=drawn, pin=view.token, theme=view.theme)
    chart(figure, key="reconstruction_kl", on_click=lambda bar: state.pin(int(bar[0])))


def positions(view: View, text: str) -> None:
    """Table of the same numbers with real positions and without RoPE."""
    st.markdown(
        "**With real positions and without**",
        help="The public training code ran attention without RoPE. A checkpoint that fits that attention replaces one "
        "which the deployed model does not have.",
    )
    both = {p: downstream_of(view, text, p) for p in ("deployed", "trained")}
    rows = [row for p, result in both.items() if result for row in _rows(p, result)]
    shares = {"same top token": percent, "KL recovered": percent}
    table(rows, label="with real positions and without", formats=shares)
    st.markdown(markdown(sentence_of(positions_compared(view), view.layer, view.basis)))


def continuations(view: View) -> None:
    """Continuations of the prompt by base, NPT model and NPT model without modulation."""
    n_tokens = st.slider("Tokens", 8, 64, 24, 8, key="reconstruction_written")
    written = continuations_of(view, n_tokens)
    for column, name, glyphs in zip(
        st.columns(3),
        ("base", "NPT", "modulation off"),
        (written.base, written.npt, written.off),
        strict=True,
    ):
        column.markdown(f"**{name}**")
        column.markdown(code("".join(glyphs)))
        if name != "base":
            column.caption(f"the base's words for {written.same(glyphs)} of {len(written.base)} tokens")


def _rows(positions: str, result: Downstream) -> list[dict[str, Cell]]:
    whole = result.whole
    rows = (
        ("base", None, None),
        ("modulation off", whole.off, None),
        ("NPT", whole.npt, whole.share_recovered),
    )
    return [
        {
            "positions": positions,
            "model": name,
            "perplexity": result.perplexity_base if run is None else run.perplexity,
            "median KL": run and run.median_kl,
            "mean KL": run and run.mean_kl,
            "same top token": run and run.agreement,
            "KL recovered": share,
        }
        for name, run, share in rows
    ]

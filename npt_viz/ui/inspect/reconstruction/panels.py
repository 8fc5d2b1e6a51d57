"""Reconstruction page: the answer, the fit by layer and token, its limits, ablations."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.figures import reconstruction as figures
from npt_viz.results.sentences.reconstruction import ablations as ablations_in_words
from npt_viz.results.sentences.reconstruction import class_floor, gate_oracle
from npt_viz.results.sentences.reconstruction import reconstruction as sentence_of
from npt_viz.ui.inspect.reconstruction.state import (
    ablations_of,
    floor_of,
    floor_targets,
    known_floors,
    oracle_of,
    reconstruction_of,
)
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.charts import chart, layer_token_map, profile, window_note
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Share that the layer recovers, what its shape allows, and what a larger one reaches."""
    return markdown(
        sentence_of(
            reconstruction_of(view),
            view.layer,
            mode=view.question.mode,
            is_sink=view.run.is_sink,
            with_sinks=view.with_sinks,
            floors=known_floors(view),
        )
    )


def shares(view: View) -> None:
    """Share recovered by each layer, between no modulation and the exact patch."""
    result = reconstruction_of(view)
    floors = known_floors(view)
    figure = figures.shares_by_layer(
        result,
        mode=view.question.mode,
        floors={view.layer: floors} if floors else None,
        pin=view.layer,
        theme=view.theme,
    )
    chart(figure, key="reconstruction_shares", on_click=lambda point: state.pin(view.token, int(point[0])))
    exact = np.nanmax([0.0, *(fit.exact_error.max() for fit in result.local.values())])
    st.caption(
        f"Median over {result.n_counted:,} token{'s' * (result.n_counted != 1)}; the exact patch (closed form on gate, up and down) leaves a relative "
        f"error of {exact:.0e}, which is rounding. Floors are estimated under Limits."
    )


def tokens(view: View) -> None:
    """Error by token, its parts along a and beside it, and the worst tokens."""
    fit = reconstruction_of(view).fits(view.question.mode)[view.layer]
    if fit.problem:
        st.info(plain(fit.problem))
    profile(view, key="reconstruction_profile")
    layer_token_map(view, key="reconstruction_map")
    window_note(view)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            "**The error, along a and beside it**",
            help="Each point is a token. Left of 0 a part of attention is missing, right of 0 there is too much of it; "
            "height is what has nothing to do with a. Grey: the same tokens without modulation. A click pins.",
        )
        figure = figures.error_parts(
            fit, tokens=view.run.tokens, left_out=view.left_out, pin=view.token, theme=view.theme
        )
        chart(figure, key="reconstruction_parts", on_click=lambda point: state.pin(int(point[0])))
    with right:
        worst(view)


def worst(view: View) -> None:
    """Table of the tokens with the largest error; choosing a row pins its token."""
    result = reconstruction_of(view)
    fit = result.fits(view.question.mode)[view.layer]
    rows = result.worst(view.layer, view.question.mode)
    table = pd.DataFrame(
        {
            "#": rows,
            "token": [view.run.tokens[i] for i in rows],
            "error": fit.relative_error[rows],
            "no mod.": fit.unmodulated_error[rows],
            "cosine": fit.cosine[rows],
            "size": fit.magnitude_ratio[rows],
        }
    )
    st.markdown(
        "**Worst tokens**", help="By relative error, attention sinks left out. Choose a row to pin its token."
    )

    def chosen() -> None:
        picked = st.session_state["reconstruction_worst"]["selection"]["rows"]
        if picked:
            state.pin(rows[picked[0]])

    st.dataframe(
        table.style.format(precision=3),
        key="reconstruction_worst",
        on_select=chosen,
        selection_mode="single-row",
        hide_index=True,
    )


def limits(view: View) -> None:
    """Limits: the best gate at each token, and one fresh adapter of this shape for all tokens."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(
            "**The gate alone, token by token**",
            help="Bounded least squares: the best gate for each token by itself (σ ≥ −0.278, the minimum of SiLU), at "
            "several prices on moving it. What an adapter cannot reach here is not the gate's fault.",
        )
        oracle = oracle_of(view)
        if oracle:
            chart(figures.gate_trade_off(oracle, view.theme), key="reconstruction_oracle")
            sentence = gate_oracle(oracle, mode=view.question.mode, positions=view.question.positions)
            st.caption(" ".join([markdown(sentence), *map(plain, oracle.notes)]))
    with right:
        st.markdown(
            "**One adapter for all tokens**",
            help="A fresh adapter of the same shape, trained for a moment on texts that no demo checkpoint has seen and "
            "judged on those held back. It may do better with more steps or text: a floor from one side.",
        )
        choices = floor_targets(view)
        if not choices:
            st.info("Attention keeps its standard path in this layer, so there is nothing to recover.")
        n_known = len(known_floors(view))
        for targets in choices:
            floor = floor_of(view, targets)
            if floor:
                st.markdown(markdown(class_floor(floor)))
        if len(known_floors(view)) > n_known:
            st.rerun()  # The answer and the main figure show it, too.


def ablations(view: View) -> None:
    """Ablations of the scalar, the direction, the sign and the size."""
    table = ablations_of(view)
    st.markdown(markdown(ablations_in_words(table, positions=view.question.positions)))
    chart(figures.ablations(table, view.theme), key="reconstruction_ablations")
    st.caption(
        "Left: on the base model's own activations. Right: this layer alone, run for real. Attention sinks keep their own "
        "scalar and direction, and are left out of the medians. " + plain(" ".join(table.notes))
    )


def frame(view: View) -> pd.DataFrame:
    """Table with one row a layer, mode and token."""
    result = reconstruction_of(view)
    names = (
        "relative_error", "cosine", "magnitude_ratio", "recovered", "error_along", "error_beside", "unmodulated_error",
        "exact_error",
    )  # fmt: skip
    parts = [
        pd.DataFrame(
            {"layer": layer, "mode": mode, "token": np.arange(len(result.tokens)), "glyph": result.tokens}
            | {"is_sink": view.run.is_sink}
            | {name: getattr(fit, name) for name in names}
        )
        for mode in ("local", "propagated")
        for layer, fit in result.fits(mode).items()
    ]
    return pd.concat(parts, ignore_index=True)

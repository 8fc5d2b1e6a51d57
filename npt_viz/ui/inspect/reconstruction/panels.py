"""Reconstruction page: the answer, the fit by layer and token, its limits, ablations."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.figures import reconstruction as figures
from npt_viz.results.sentences.reconstruction import ablations as ablations_in_words
from npt_viz.results.sentences.reconstruction import answer as sentence_of
from npt_viz.results.sentences.reconstruction import class_floor, gate_oracle
from npt_viz.results.words import counted
from npt_viz.ui.inspect.reconstruction.state import (
    ablations_of,
    floor_of,
    floor_targets,
    known_floors,
    oracle_of,
    positions_compared,
    reconstruction_of,
    want_floors,
)
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.inspecting import draw_again
from npt_viz.ui.widgets.prompt import view_data
from npt_viz.ui.widgets.tables import table
from npt_viz.ui.widgets.token_view import token_view
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Share that the layer recovers, what its shape allows, what it recovers with other positions, and KL to the base."""
    return markdown(
        sentence_of(
            positions_compared(view),
            view.run,
            view.layer,
            with_sinks=view.with_sinks,
            floors=known_floors(view),
        )
    )


def shares(view: View) -> None:
    """Share recovered by each layer, between no modulation and the exact patch, and the way to its limits."""
    result, mode = reconstruction_of(view), view.question.mode
    floors = known_floors(view)
    figure = figures.shares_by_layer(
        positions_compared(view),
        mode=mode,
        positions=view.question.positions,
        floors={view.layer: floors} if floors else None,
        pin=view.layer,
        theme=view.theme,
    )
    with st.container(key="main_figure"):
        chart(
            figure,
            key="reconstruction_shares",
            on_click=lambda point: state.pin(view.token, int(point[0])),
        )
    exact = np.nanmax([0.0, *(fit.exact_error.max() for fit in result.local.values())])
    with st.container(horizontal=True, vertical_alignment="center"):
        if not floors and floor_targets(view):
            st.button(
                "Estimate what the shape allows",
                key="reconstruction_estimate",
                icon=":material/straighten:",
                on_click=_open_limits,
                args=[view],
                help="Fits fresh adapters of this shape, and of the next larger one, on texts of the sample; opens Limits.",
            )
        st.caption(
            f"Medians over {counted(result.n_counted, 'token')}. The exact patch (closed form on gate, up and down) leaves a "
            f"relative error of {exact:.0e}, which is rounding."
        )


def _open_limits(view: View) -> None:
    st.session_state["reconstruction_section"] = "Limits"
    want_floors(view)


def tokens(view: View) -> None:
    """Error by token and layer, its parts along a and beside it, and the worst tokens."""
    fit = reconstruction_of(view).fits(view.question.mode)[view.layer]
    if fit.problem:
        st.info(plain(fit.problem))
    data = view_data(view, ("profile", "map"), is_editable=False)
    token_view(data, key="reconstruction_view", on_pin=state.pin)
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
    """Table of the tokens with the largest error, and a choice that pins one of them."""
    result = reconstruction_of(view)
    fit = result.fits(view.question.mode)[view.layer]
    rows = result.worst(view.layer, view.question.mode)
    st.markdown("**Worst tokens**", help="By relative error, attention sinks left out.")
    table(
        [
            {
                "#": str(i),
                "token": view.run.tokens[i],
                "error": float(fit.relative_error[i]),
                "no mod.": float(fit.unmodulated_error[i]),
                "cosine": float(fit.cosine[i]),
                "size": float(fit.magnitude_ratio[i]),
            }
            for i in rows
        ],
        label="worst tokens",
        code=("token",),
        help={
            "error": "‖ŷ − target‖ / ‖target‖",
            "no mod.": "the same without modulation",
            "cosine": "of ŷ and target",
            "size": "‖ŷ‖ / ‖target‖",
        },
    )
    # What is pinned shows in the strip: the choice itself says nothing.
    st.session_state["reconstruction_worst"] = None
    st.pills(
        "Pin",
        rows,
        key="reconstruction_worst",
        format_func=lambda i: f"#{i}",
        on_change=_pin_worst,
    )


def _pin_worst() -> None:
    if (chosen := st.session_state["reconstruction_worst"]) is not None:
        state.pin(int(chosen))


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
            st.info(
                "Attention keeps its standard path in this layer, so there is nothing to recover; choose another layer, or see on Tokens what it changes."
            )
        n_known = len(known_floors(view))
        for targets in choices:
            floor = floor_of(view, targets)
            if floor:
                st.markdown(markdown(class_floor(floor)))
        if len(known_floors(view)) > n_known:
            draw_again()  # The answer and the main figure show it, too.


def ablations(view: View) -> None:
    """Ablations of the scalar, the direction, the sign and the size."""
    ablated = ablations_of(view)
    st.markdown(markdown(ablations_in_words(ablated, positions=view.question.positions)))
    chart(figures.ablations(ablated, view.theme), key="reconstruction_ablations")
    st.caption(
        "Left: on the base model's own activations. Right: this layer alone, run for real. Attention sinks keep their own "
        "scalar and direction, and are left out of the medians. " + plain(" ".join(ablated.notes))
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

"""Orthogonality page: the answer and the figures."""

import pandas as pd
import streamlit as st

from npt_viz.figures import orthogonality as figures
from npt_viz.results.directions import Unavailable
from npt_viz.results.estimate import median_of
from npt_viz.results.orthogonality import LayerOrthogonality
from npt_viz.results.sentences.orthogonality import orthogonality as sentence_of
from npt_viz.ui.inspect.orthogonality.state import (
    TARGET,
    axes_in_words,
    chosen_axes,
    layer_result,
    result_of,
)
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import as_sentence, markdown, plain
from npt_viz.ui.widgets.charts import chart, shown, window_note
from npt_viz.ui.widgets.tables import table
from npt_viz.ui.widgets.target import target_of
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Shares of v_a's energy along the mean and in the common directions, against a random vector's."""
    result = layer_result(view)
    if isinstance(result, Unavailable):
        return as_sentence(result.sentence)
    return markdown(sentence_of(result, view.basis, axes_from=axes_in_words()))


def against_random(view: View, result: LayerOrthogonality) -> None:
    """Shares along the mean and in the top axes, each against a random vector's; the answer's numbers."""
    along, top = (median_of(view.basis.of(shares)) for shares in (result.mean_shares, result.shares))
    with st.container(key="main_figure"):
        chart(
            figures.against_random(result, along=along, top=top, theme=view.theme),
            key="orthogonality_against",
        )
    st.caption(
        " ".join(
            [
                f"Axes of {result.n_reference:,} tokens in {result.dim:,} dimensions. Beyond the band v_a reads what all tokens "
                "share, so that the scalar differs little between them; below it avoids that, as the orthogonality loss asks.",
                *map(plain, result.notes),
            ]
        )
    )


def curve_and_spectrum(view: View, result: LayerOrthogonality) -> None:
    """Share for every number of axes q, and the spectrum of the axes."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            "**Share of v_a in the first q axes**",
            help="Mean over tokens. Above the band: v_a reads what all tokens share, so that the scalar differs little "
            "between them. Below: it avoids it, as the orthogonality loss asks.",
        )
        chart(figures.share_curve(result, view.theme), key="orthogonality_curve")
    with right:
        st.markdown(
            f"**Spectrum of {result.of}**",
            help="Share of each principal axis, by exact eigh. Dashed: the largest that as many vectors without any "
            "structure have, (1 + √(d/n))² / d.",
        )
        chart(figures.spectrum(result, view.theme), key="orthogonality_spectrum")


def profile(view: View, result: LayerOrthogonality) -> None:
    """Share by token."""
    st.markdown(
        f"**Share in the top {result.top}, token by token**",
        help="A click pins the token. Band: a random vector, ± 2 sd.",
    )
    figure = figures.share_profile(
        result, tokens=view.run.tokens, pin=view.token, shown=shown(view), theme=view.theme
    )
    chart(figure, key="orthogonality_profile", on_click=lambda bar: state.pin(int(bar[0])))
    window_note(view)


def angles(view: View, result: LayerOrthogonality) -> None:
    """Principal angles between the axes and v_a."""
    st.markdown(
        "**Principal angles**",
        help="Between the top axes and the directions in which the v_a of all tokens have most energy (weighted by "
        "‖v_b‖², so that only ΔW counts). 90° is orthogonal.",
    )
    chart(figures.principal_angles(result, view.theme), key="orthogonality_angles")


def published(result: LayerOrthogonality) -> None:
    """Number that the published loss minimises, centred and not."""
    table(
        [
            {
                "mean((v_a · V)²), centred": float(result.published),
                "not centred": float(result.published_uncentred),
                "random directions of the same norms": float(result.published_random),
            }
        ],
        label="the published number",
    )
    st.caption(
        f"V: the top {result.top} axes of {result.of}. It depends on the gauge: (c·v_a, v_b/c) is the same update "
        "with c² times the number. The shares above do not."
    )


def all_layers(view: View) -> None:
    """Map of layers and tokens: every layer has axes of its own."""
    results = result_of(view, tuple(view.layers))
    if isinstance(results, Unavailable):
        st.info(plain(results.sentence))
        return
    drawn = [layer for layer in results.layers.values() if isinstance(layer, LayerOrthogonality)]
    if drawn:
        figure = figures.share_map(
            drawn,
            tokens=view.run.tokens,
            pin=(view.layer, view.token),
            shown=shown(view),
            theme=view.theme,
        )
        chart(figure, key="orthogonality_map", on_click=lambda cell: state.pin(int(cell[1]), int(cell[0])))
    for layer, result in results.layers.items():
        if isinstance(result, Unavailable):
            st.caption(f"Layer {layer}: {plain(result.sentence)}")


def frame(view: View, result: LayerOrthogonality) -> pd.DataFrame:
    """Table with one row a token."""
    return pd.DataFrame(
        {
            "layer": result.layer,
            "target": result.target,
            "token": range(len(view.run.tokens)),
            "glyph": view.run.tokens,
            f"share_top_{result.top}_of_{result.of}": result.shares,
            "left_out": result.left_out,
            "random": result.random.mean,
        }
    )


def choices(view: View) -> dict[str, object]:
    """Arguments of `reproducing.script("orthogonality", …)` that stand for the page's controls."""
    of, texts, top, centred = chosen_axes(view)
    bundled = st.session_state["orthogonality_from"] == "bundled texts"
    return {
        "layer": view.layer,
        "target": target_of(view, TARGET),
        "of": of,
        "top": top,
        "centred": centred,
        "axes_from": axes_in_words(),
        "texts": () if bundled else texts,
        "keep_sinks": view.with_sinks,
    }

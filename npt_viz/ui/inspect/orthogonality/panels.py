"""Orthogonality page: the answer and the figures."""

import pandas as pd
import streamlit as st

from npt_viz.figures import orthogonality as figures
from npt_viz.figures.theme import number
from npt_viz.results.directions import Unavailable
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
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.target import target_of
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Shares of v_a's energy along the mean and in the common directions, against a random vector's."""
    result = layer_result(view)
    if isinstance(result, Unavailable):
        return as_sentence(result.sentence)
    return markdown(sentence_of(result, view.basis, axes_from=axes_in_words()))


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
            help="Share of each principal axis. Dashed: the largest that as many vectors without any structure have, "
            "(1 + √(d/n))² / d.",
        )
        chart(figures.spectrum(result, view.theme), key="orthogonality_spectrum")
        st.caption(f"Axes of {result.n_reference:,} tokens in {result.dim:,} dimensions, exact eigh.")
    for note in result.notes:
        st.caption(plain(note))


def profile_and_angles(view: View, result: LayerOrthogonality) -> None:
    """Share by token, and principal angles between the axes and v_a."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            f"**Share in the top {result.top}, token by token**",
            help="A click pins the token. Band: a random vector, ± 2 sd.",
        )
        figure = figures.share_profile(
            result, tokens=view.run.tokens, pin=view.token, shown=shown(view), theme=view.theme
        )
        chart(figure, key="orthogonality_profile", on_click=lambda bar: state.pin(int(bar[0])))
    with right:
        st.markdown(
            "**Principal angles**",
            help="Between the top axes and the directions in which the v_a of all tokens have most energy (weighted by "
            "‖v_b‖², so that only ΔW counts). 90° is orthogonal.",
        )
        chart(figures.principal_angles(result, view.theme), key="orthogonality_angles")


def published(result: LayerOrthogonality) -> None:
    """Number that the published loss minimises, centred and not."""
    with st.expander("The published number, mean((v_a · V)²)"):
        columns = st.columns(3)
        columns[0].metric("centred", number(result.published))
        columns[1].metric("not centred", number(result.published_uncentred))
        columns[2].metric("random directions of the same norms", number(result.published_random))
        st.caption(
            f"V: the top {result.top} axes of {result.of}. It depends on the gauge: (c·v_a, v_b/c) is the same update "
            "with c² times the number. The shares above do not."
        )


def all_layers(view: View) -> None:
    """Map of layers and tokens, on request: every layer needs axes of its own."""
    if len(view.layers) < 2 or not st.toggle("Every layer", key="orthogonality_all", persist_state="session"):
        return
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


def python(view: View) -> list[str]:
    """Last lines of the Python snippet."""
    of, texts, top, centred = chosen_axes(view)
    shared = f"target={target_of(view, TARGET)!r}, of={of!r}, keep_sinks={view.with_sinks}"
    where = f"mode={view.question.mode!r}, positions={view.question.positions!r}"
    if not texts:
        lines = ["reference = None  # the prompt's own axes"]
    else:
        bundled = st.session_state["orthogonality_from"] == "bundled texts"
        lines = [
            "texts = npt_viz.bundled_texts('heldout')" if bundled else f"texts = {list(texts)!r}",
            "reference = npt_viz.reference_vectors("
            f"model, checkpoint, texts, layers=[{view.layer}], {where}, {shared})",
        ]
    return [
        *lines,
        f"result = npt_viz.orthogonality(model, checkpoint, run, layers=[{view.layer}], reference=reference, top={top}, centred={centred}, {shared})",
        f"print(result.layers[{view.layer}].share, result.layers[{view.layer}].random)",
    ]

"""The Orthogonality page in pieces: its choices, its cached calls, its answer, its panels."""

from typing import NamedTuple

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures import orthogonality as figures
from npt_viz.figures.theme import number
from npt_viz.results.directions import Unavailable
from npt_viz.results.orthogonality import LayerOrthogonality, Orthogonality
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import waiting
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.inspect.directions import sinks_left_out, target_choice, target_of, valid
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import as_sentence, plain
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.view import View

TARGET = "orthogonality_target"
REFERENCES = ("this prompt", "bundled texts", "my text")
MOST_AXES = 60


class Axes(NamedTuple):
    """Which axes count as common, as plain values."""

    of: str
    """h, or input"""
    texts: tuple[str, ...]
    """Where they are from; the prompt where empty"""
    top: int
    centred: bool


@st.cache_resource(max_entries=4, show_spinner="Reading the reference text, up to 2,048 tokens")
def _reference(
    asked: Asked, layers: tuple[int, ...], target: str, of: str, texts: tuple[str, ...], keep_sinks: bool
):
    from npt_viz.analysis.orthogonality import reference_vectors

    model, checkpoint = opened.opened(asked.source)
    return reference_vectors(
        model,
        checkpoint,
        texts,
        layers=layers,
        target=target,
        of=of,
        mode=asked.mode,
        positions=asked.positions,
        keep_sinks=keep_sinks,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _orthogonality(
    asked: Asked, layers: tuple[int, ...], target: str, axes: Axes, keep_sinks: bool
) -> Orthogonality | Unavailable:
    from npt_viz.analysis.orthogonality import orthogonality

    model, checkpoint = opened.opened(asked.source)
    run = opened.inspection(asked)

    def result() -> Orthogonality:
        reference = None
        if axes.texts:
            # What the text shows depends neither on the prompt nor on the number of axes.
            of_text = asked._replace(prompt="", chat=False, bos="auto")
            reference = _reference(of_text, layers, target, axes.of, axes.texts, keep_sinks)
        return orthogonality(
            model,
            checkpoint,
            run,
            layers=layers,
            target=target,
            of=axes.of,
            reference=reference,
            top=axes.top,
            centred=axes.centred,
            keep_sinks=keep_sinks,
            seen=opened.seen(asked),
        )

    return Unavailable.unless(result)


def chosen(view: View) -> Axes:
    """What the widgets hold, before they are drawn, too."""
    here = st.session_state
    for key, value in {"of": "h", "top": 10, "centred": True, "from": REFERENCES[0], "text": ""}.items():
        here.setdefault(f"orthogonality_{key}", value)
    texts: tuple[str, ...] = ()
    if here["orthogonality_from"] == "my text":
        texts = (here["orthogonality_text"],)
    elif here["orthogonality_from"] == "bundled texts":
        from npt_viz.texts import bundled_texts

        texts = tuple(bundled_texts("heldout"))
    options = ("input",) if target_of(view, TARGET) == "down" else ("h", "input")
    of = valid("orthogonality_of", options)
    return Axes(of, texts, here["orthogonality_top"], here["orthogonality_centred"])


def found(view: View, layers: tuple[int, ...] = ()) -> Orthogonality | Unavailable:
    """The chosen layer, or several."""
    target = target_of(view, TARGET)
    try:
        axes = chosen(view)
    except NptVizError as error:
        return Unavailable(str(error))
    with waiting(view.asked.source, "Finding the common directions", 1, len(view.run.pieces)):
        return _orthogonality(view.asked, layers or (view.layer,), target, axes, view.with_sinks)


def layer_found(view: View) -> LayerOrthogonality | Unavailable:
    """The chosen layer's result."""
    results = found(view)
    return results if isinstance(results, Unavailable) else results.layers[view.layer]


def answer(view: View) -> str:
    """How much of v_a lies in the common directions, against a random vector."""
    result = layer_found(view)
    if isinstance(result, Unavailable):
        return as_sentence(result.sentence)
    mean, sd, _ = result.random
    centred = "centred" if result.centred else "not centred"
    if abs(result.share - mean) <= 2 * sd:
        judged = "no more than a random vector"
    else:
        judged = f"**{result.times_random:.1f} times** a random vector's"
    return (
        f"Layer {result.layer}'s v_a ({result.target}) has **{result.share:.1%}** of its energy in the top {result.top} of "
        f"{result.dim} directions of {result.of} ({centred}), {judged} {mean:.1%} ± {sd:.1%}; along the mean of "
        f"{result.of} alone it has **{result.mean_share:.1%}**, a random vector {1 / result.dim:.1%} "
        f"({view.run.mode}{sinks_left_out(view)})."
    )


def choices(view: View) -> None:
    """Which axes count as common."""
    chosen_target, of, where, top, centred = st.columns(
        [1.7, 1.1, 2.8, 1.6, 1.2], vertical_alignment="bottom"
    )
    with chosen_target:
        target_choice(view, TARGET)
    down = target_of(view, TARGET) == "down"
    of.segmented_control(
        "Directions of",
        ("input",) if down else ("h", "input"),
        key="orthogonality_of",
        format_func=lambda name: "h" if name == "h" else "m" if down else "z",
        required=True,
        persist_state="session",
        help="h: the residual stream entering the layer. z, or m for the down target: what v_a is multiplied with.",
    )
    where.segmented_control(
        "Axes from",
        REFERENCES,
        key="orthogonality_from",
        required=True,
        persist_state="session",
        help="Tokens whose principal axes count as common. Bundled: texts that no demo checkpoint was trained on.",
    )
    top.slider("Top axes, q", 1, MOST_AXES, key="orthogonality_top", persist_state="session")
    centred.toggle(
        "Centred",
        key="orthogonality_centred",
        persist_state="session",
        help="Whether the mean is subtracted before the axes are found. If not, the first axis is mostly the mean.",
    )
    if st.session_state["orthogonality_from"] == "my text":
        st.text_area("Reference text", key="orthogonality_text", persist_state="session", height=120)


def curve_and_spectrum(view: View, result: LayerOrthogonality) -> None:
    """The main figure: the share for every q, and the axes themselves."""
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
    """Token by token, and subspace against subspace."""
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
    """The number that the published loss minimises, both ways."""
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
    """Layer × token, on request: every layer needs axes of its own."""
    if len(view.layers) < 2 or not st.toggle("Every layer", key="orthogonality_all", persist_state="session"):
        return
    results = found(view, tuple(view.layers))
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
    """One row a token."""
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
    """The last lines of the snippet."""
    of, texts, top, centred = chosen(view)
    shared = f"target={target_of(view, TARGET)!r}, of={of!r}, keep_sinks={view.with_sinks}"
    where = f"mode={view.asked.mode!r}, positions={view.asked.positions!r}"
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
        f"found = npt_viz.orthogonality(model, checkpoint, run, layers=[{view.layer}], reference=reference, top={top}, centred={centred}, {shared})",
        f"print(found.layers[{view.layer}].share, found.layers[{view.layer}].random)",
    ]

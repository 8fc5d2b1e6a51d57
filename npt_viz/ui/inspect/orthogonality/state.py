"""Orthogonality page: the chosen principal axes, and cached shares of v_a's energy in them."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.results.directions import Unavailable
from npt_viz.results.orthogonality import LayerOrthogonality, Orthogonality
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import waiting
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.target import target_of, valid
from npt_viz.ui.widgets.view import View

if TYPE_CHECKING:
    from npt_viz.analysis.orthogonality import Of

TARGET = "orthogonality_target"

REFERENCES = ("this prompt", "bundled texts", "my text")


class Axes(NamedTuple):
    """Choice of the principal axes that count as common, as plain values."""

    of: "Of"
    """h, or input"""
    texts: tuple[str, ...]
    """Where they are from; the prompt where empty"""
    top: int
    centred: bool


def axes_in_words() -> str:
    """Where the chosen axes are from."""
    chosen = st.session_state["orthogonality_from"]
    return "a text given here" if chosen == "my text" else str(chosen)


def chosen_axes(view: View) -> Axes:
    """Principal axes that the widgets name; also before they are drawn. Raises NptVizError without a text."""
    session = st.session_state
    for key, value in {"of": "h", "top": 10, "centred": True, "from": REFERENCES[0], "text": ""}.items():
        session.setdefault(f"orthogonality_{key}", value)
    texts: tuple[str, ...] = ()
    if session["orthogonality_from"] == "my text":
        texts = (session["orthogonality_text"],)
    elif session["orthogonality_from"] == "bundled texts":
        from npt_viz.texts import bundled_texts

        texts = tuple(bundled_texts("heldout"))
    options: tuple[Of, ...] = ("input",) if target_of(view, TARGET) == "down" else ("h", "input")
    of = valid("orthogonality_of", options)
    return Axes(of, texts, session["orthogonality_top"], session["orthogonality_centred"])


@st.cache_resource(max_entries=4, show_spinner="Reading the reference text, up to 2,048 tokens")
def _reference(
    asked: Asked, layers: tuple[int, ...], target: str, of: "Of", texts: tuple[str, ...], keep_sinks: bool
):
    from npt_viz.analysis.orthogonality import reference_vectors

    model, checkpoint = opened.opened(asked.selection)
    return reference_vectors(
        model,
        checkpoint,
        texts,
        layers=layers,
        target=target,
        of=of,
        mode=asked.question.mode,
        positions=asked.question.positions,
        keep_sinks=keep_sinks,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _orthogonality(
    asked: Asked, layers: tuple[int, ...], target: str, axes: Axes, keep_sinks: bool
) -> Orthogonality | Unavailable:
    from npt_viz.analysis.orthogonality import orthogonality

    model, checkpoint = opened.opened(asked.selection)
    run = opened.inspection(asked)

    def result() -> Orthogonality:
        reference = None
        if axes.texts:
            # What the text shows depends neither on the prompt nor on the number of axes.
            of_text = asked.having(prompt="", chat=False, bos="auto")
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
            kept_pass=opened.kept_pass(asked),
        )

    return Unavailable.unless(result)


def result_of(view: View, layers: tuple[int, ...] = ()) -> Orthogonality | Unavailable:
    """Shares of v_a's energy in the chosen axes: of the chosen layer, or of several."""
    target = target_of(view, TARGET)
    try:
        axes = chosen_axes(view)
    except NptVizError as error:
        return Unavailable(str(error))
    given = view.asked, layers or (view.layer,), target, axes, view.with_sinks
    with waiting(view.selection, "Finding the common directions", 1, len(view.run.pieces), of=given):
        return _orthogonality(*given)


def layer_result(view: View) -> LayerOrthogonality | Unavailable:
    """The chosen layer's result."""
    results = result_of(view)
    return results if isinstance(results, Unavailable) else results.layers[view.layer]

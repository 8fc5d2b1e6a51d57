"""What the Directions page computes: its cached calls, its choices, its answer in one sentence, its table."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from npt_viz.results.directions import (
    DirectionMap,
    Directions,
    DirectionVocabulary,
    Unavailable,
)
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import waiting
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell.text import as_sentence, plain
from npt_viz.ui.widgets.view import View

TARGET = "directions_target"
"""Key of the widget that chooses the target."""


@st.cache_data(max_entries=64, show_spinner=False)
def directions_of(asked: Asked, layer: int, target: str, keep_sinks: bool) -> Directions | Unavailable:
    from npt_viz.analysis.directions import directions

    model, checkpoint = opened.opened(asked.source)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: directions(
            model, checkpoint, run, layer, target=target, keep_sinks=keep_sinks, seen=opened.seen(asked)
        )
    )


@st.cache_data(max_entries=64, show_spinner="Drawing the map")
def map_of(
    asked: Asked, layer: int, target: str, keep_sinks: bool, quantity: str, component: int | None
) -> DirectionMap | Unavailable:
    from npt_viz.analysis.direction_map import direction_map

    model, checkpoint = opened.opened(asked.source)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: direction_map(
            model,
            checkpoint,
            run,
            layer,
            target=target,
            quantity=quantity,
            component=component,
            keep_sinks=keep_sinks,
            seen=opened.seen(asked),
        )
    )


@st.cache_data(max_entries=256, show_spinner="Reading the direction through the unembedding")
def vocabulary_of(
    asked: Asked, layer: int, target: str, keep_sinks: bool, token: int, direction: str
) -> DirectionVocabulary | Unavailable:
    from npt_viz.analysis.direction_vocabulary import direction_vocabulary

    model, checkpoint = opened.opened(asked.source)
    run = opened.inspection(asked)
    return Unavailable.unless(
        lambda: direction_vocabulary(
            model,
            checkpoint,
            run,
            layer,
            token,
            target=target,
            direction=direction,
            keep_sinks=keep_sinks,
            seen=opened.seen(asked),
        )
    )


def target_of(view: View, key: str) -> str:
    """The chosen target of the layer, or its first one; before its widget is drawn, too."""
    return str(valid(key, view.run.layers[view.layer].targets))


def valid(key: str, options: Sequence) -> object:
    """What a widget holds, set to the first option where another layer or target no longer has it."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return st.session_state[key]


def target_choice(view: View, key: str) -> None:
    """Which projection is looked at."""
    st.segmented_control(
        "Target",
        view.run.layers[view.layer].targets,
        key=key,
        required=True,
        persist_state="session",
        help="The projection whose weight change is looked at: W_g, W_u or W_d of this layer's MLP.",
    )


def found(view: View) -> Directions | Unavailable:
    """Everything but the map, for the chosen target."""
    asked, n_tokens = view.asked, len(view.run.pieces)
    with waiting(asked.source, "Comparing the directions of all tokens", 1, n_tokens):
        return directions_of(asked, view.layer, target_of(view, TARGET), view.with_sinks)


def answer(view: View) -> str:
    """Whether the directions differ from token to token, and whether they are the right ones."""
    result = found(view)
    if isinstance(result, Unavailable):
        return as_sentence(result.sentence)
    what = f"Layer {result.layer}'s {result.target} modulation"
    fallen = [verdict for verdict in result.verdicts if verdict.collapsed]
    if fallen:
        return f"{what} **has collapsed**: {' '.join(plain(verdict.sentence) for verdict in fallen)}"
    spread = next(verdict for verdict in result.verdicts if verdict.name == "s·v_b").evidence
    said = (
        f"{what} **differs from token to token**: s·v_b uses {spread['effective rank']:.1f} directions over "
        f"{len(result.tokens)} tokens, {spread['redrawn adapter']:.1f} if its weights were redrawn at random"
        f" ({result.mode}{sinks_left_out(view)})."
    )
    if not isinstance(result.exact, Unavailable):
        said += (
            f" It points **{pd.Series(result.exact.cosines).mean():.2f}** (mean cosine) along the exact "
            f"{result.exact.formula}; with the ΔW of other tokens {result.exact.shuffled.mean:.2f}."
        )
    return said


def sinks_left_out(view: View) -> str:
    """As part of a sentence; empty where none is."""
    n_sinks = int(view.left_out.sum())
    return f", {n_sinks} sink{'s' * (n_sinks != 1)} left out" if n_sinks else ""


def frame(view: View, result: Directions) -> pd.DataFrame:
    """One row a compared token."""
    columns = {"token": result.tokens, "glyph": [view.run.tokens[i] for i in result.tokens]}
    if not isinstance(result.exact, Unavailable):
        columns |= {"cosine_with_exact": result.exact.cosines, "norm_ratio_to_exact": result.exact.ratios}
    if not isinstance(result.alignment, Unavailable):
        columns["mean_alignment"] = result.alignment.cosines.mean(1)
    return pd.DataFrame({"layer": result.layer, "target": result.target, **columns})


def python(view: View) -> list[str]:
    """The last lines of the snippet."""
    target = target_of(view, TARGET)
    return [
        f"found = npt_viz.directions(model, checkpoint, run, {view.layer}, target={target!r}, keep_sinks={view.with_sinks})",
        "print(*(verdict.sentence for verdict in found.verdicts), sep='\\n')",
        "print(found.exact.cosines, found.alignment.cosines)",
    ]

"""Directions page: the answer and the figures, each with its reference."""

from typing import TypeGuard, TypeVar

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.figures import directions as figures
from npt_viz.figures import parts
from npt_viz.figures.card import vocabulary_changes
from npt_viz.figures.theme import number
from npt_viz.results.directions import (
    DIRECTIONS,
    MAX_LOST,
    QUANTITIES,
    DirectionMap,
    Directions,
    Unavailable,
)
from npt_viz.results.sentences.directions import directions as sentence_of
from npt_viz.ui.inspect.directions.state import TARGET, directions_of_view, map_of, vocabulary_of
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import as_sentence, code, markdown, plain
from npt_viz.ui.widgets.charts import chart, shown, window_note
from npt_viz.ui.widgets.target import target_of, valid
from npt_viz.ui.widgets.view import View

Result = TypeVar("Result")

SPREAD_HELP = (
    "Effective rank: exp of the entropy of the normalised singular values. Participation ratio: (Σσ²)² / Σσ⁴; small "
    "directions count less. Of the vectors as they are, not centred."
)


def answer(view: View) -> str:
    """Whether the directions differ between tokens, and how they agree with the exact patch."""
    result = directions_of_view(view)
    if isinstance(result, Unavailable):
        return as_sentence(result.sentence)
    return markdown(sentence_of(result, view.basis))


def against_random(view: View, result: Directions) -> None:
    """How many directions s·v_b uses, against the adapter with redrawn weights, and the rules of collapse beside it."""
    left, right = st.columns([3, 2], gap="medium")
    with left, st.container(key="main_figure"):
        part = map_of(view.asked, view.layer, result.target, view.with_sinks, QUANTITIES[0], None)
        if _there(part):
            chart(figures.spreads(part, view.theme), key="directions_spread")
    with right:
        verdicts(result)


def direction_map(view: View, quantity: str, component: int | None) -> None:
    """Map of the tokens' vectors on two axes, and the number of directions they use."""
    target = target_of(view, TARGET)
    result = map_of(view.asked, view.layer, target, view.with_sinks, quantity, component)
    if not _there(result):
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            f"**Map of {quantity} over tokens**",
            help="The two axes along which the vectors differ most; distances are to scale. Colour: the metric chosen "
            "above. Dashed: where random directions of the same norms lie (2 sd). A click pins the token.",
        )
        figure = figures.direction_map(
            result, tokens=view.run.tokens, values=view.layer_values, scale=view.scale, pin=view.token
        )
        chart(figure, key="directions_map", on_click=lambda point: state.pin(int(point[0])))
        apart = float(np.sqrt(np.mean(result.norms**2) - result.mean_norm**2))
        st.caption(
            f"The vectors' mean, the centre of the map, is {number(result.mean_norm)} long; they lie "
            f"{number(apart)} from it (rms)." + _far(view, result)
        )
    if (quantity, component) != (QUANTITIES[0], None):
        with right:
            st.markdown("**How many directions they use**", help=SPREAD_HELP)
            chart(figures.spreads(result, view.theme), key="directions_spread_of")


def _far(view: View, result: DirectionMap) -> str:
    """Which tokens lie beyond the drawn part of the map, as another sentence; empty where none does."""
    far = result.tokens[result.far]
    if not len(far):
        return ""
    named = ", ".join(f"{code(view.run.tokens[i])} #{i}" for i in far[:3]) + (" …" if len(far) > 3 else "")
    share = float(
        np.square(result.coordinates[result.far, 0]).sum() / np.square(result.coordinates[:, 0]).sum()
    )
    lie = "lies" if len(far) == 1 else "lie"
    return (
        f" {named} {lie} beyond what is drawn and make{'s' * (len(far) == 1)} {share:.0%} of the variance along axis 1; "
        "a double click shows all."
    )


def verdicts(result: Directions) -> None:
    """Rules of collapse, each with its evidence."""
    lines = [
        f"{':material/warning:' if verdict.collapsed else ':material/check:'} {plain(verdict.sentence)}"
        for verdict in result.verdicts
    ]
    st.markdown(
        "**Has it collapsed?**",
        help="Size, scalar and diversity count as collapsed below "
        + ", ".join(f"{verdict.name} {number(verdict.threshold)}" for verdict in result.verdicts)
        + ". Diversity is (effective rank − 1) / (that of the redrawn adapter − 1); few directions count as a collapse "
        f"only where one would leave out less than {MAX_LOST:.0%} of the vectors and of what the modulation adds.\n\n"
        + SPREAD_HELP,
    )
    st.caption("\n\n".join([*lines, *map(plain, result.notes)]))


def alignment(view: View, result: Directions) -> None:
    """Alignment of ΔW between tokens."""
    st.markdown(
        "**Alignment of ΔW, token by token**",
        help="⟨ΔW_t, ΔW_t'⟩ / ‖ΔW_t‖‖ΔW_t'‖, summed over components. A click pins the token of the column.",
    )
    if _there(part := result.alignment):
        figure = figures.alignment_map(part, tokens=view.run.tokens, pin=view.token, theme=view.theme)
        chart(figure, key="directions_alignment", on_click=lambda cell: state.pin(int(cell[0])))
        drawn = min(len(part.tokens), figures.ALIGNED)
        st.caption(
            f"Mean of all pairs {part.mean:.2f}; the attention outputs alone give {part.attention.mean:.2f} "
            f"(cos², the alignment of a aᵀ), random directions 0 ± {number(part.random.sd)}."
            + (f" Drawn: {drawn} tokens around the pin." if drawn < len(part.tokens) else "")
        )


def agreement(view: View, result: Directions) -> None:
    """Agreement with the exact patch."""
    st.markdown(
        "**Agreement with the exact patch**",
        help="cos of what is added with what the exact patch would add. It is one exact solution, not the only "
        "one: a low cosine is no fault by itself. Band: random directions, 2 sd.",
    )
    if _there(part := result.exact):
        figure = figures.agreement(
            part,
            tokens=view.run.tokens,
            left_out=view.left_out,
            pin=view.token,
            shown=shown(view),
            theme=view.theme,
        )
        chart(figure, key="directions_exact", on_click=lambda bar: state.pin(int(bar[0])))
        st.caption(
            f"Exact: {part.formula}. Dashed: each token with the ΔW of another, mean of "
            f"{part.shuffled.n} shuffles {part.shuffled.mean:.2f} ± {part.shuffled.sd:.2f} (seed {result.seed})."
        )
        window_note(view)


def components(view: View, result: Directions) -> None:
    """Share and alignment of the components."""
    if not _there(part := result.components):
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(
            "**Share of each component**",
            help="Its part of the summed s·v_b, projected on the sum; shares add up to 1, below 0 it works against it.",
        )
        chart(parts.component_shares(part, view.theme), key="directions_shares")
    with right:
        st.markdown(
            "**Alignment of the components**",
            help="Cosine of their s·v_b, mean over tokens; 1 means that one of the two is not needed.",
        )
        chart(parts.component_cosines(part, view.theme), key="directions_cosines")
        st.caption(f"Random directions: 0 ± {number(part.random_sd)}.")


def units(view: View, result: Directions) -> None:
    """Units that the directions move most."""
    st.markdown(
        "**Units moved most over the prompt**",
        help="One point a token, with what it adds to the unit; a click pins the token. Beside the name: the unit's "
        "share of all that is moved. Grey: the unit's own size (rms) without modulation.",
    )
    if _there(part := result.units):
        figure = parts.moved_units(part, tokens=view.run.tokens, pin=view.token, theme=view.theme)
        chart(figure, key="directions_units", on_click=lambda point: state.pin(int(point[0])))
        st.caption(
            f"About {part.effective_units:.0f} of {part.n_units:,} units share the change; alike, each would "
            f"have {1 / part.n_units:.2%}."
        )


def vocabulary(view: View, result: Directions) -> None:
    """Next tokens that a direction raises and lowers."""
    valid("directions_speaks", DIRECTIONS)
    direction = st.segmented_control(
        "Next tokens that this direction of s·v_b speaks for and against",
        DIRECTIONS,
        key="directions_speaks",
        persist_state="session",
        required=True,
        help="This token's own, the mean of all tokens, or one standard deviation along an axis of the map of s·v_b.",
    )
    part = vocabulary_of(
        view.asked, view.layer, result.target, view.with_sinks, view.token, direction or DIRECTIONS[0]
    )
    if _there(part):
        chart(vocabulary_changes(part, view.theme), key="directions_vocabulary")
        st.caption(
            f"To first order at {code(view.run.tokens[view.token])} (token {view.token}): "
            f"{plain(part.linearised_at)}; layers above are skipped. Dashed: the largest change by a random "
            f"direction of this norm, {number(part.random.mean)} (mean of {part.random.n})."
        )


def _there(part: Result | Unavailable) -> TypeGuard[Result]:
    """Whether there is a result; its sentence is shown where there is none."""
    if isinstance(part, Unavailable):
        st.info(plain(part.sentence))
        return False
    return True


def frame(view: View, result: Directions) -> pd.DataFrame:
    """Table with one row a compared token."""
    columns = {"token": result.tokens, "glyph": [view.run.tokens[i] for i in result.tokens]}
    if not isinstance(result.exact, Unavailable):
        columns |= {"cosine_with_exact": result.exact.cosines, "norm_ratio_to_exact": result.exact.ratios}
    if not isinstance(result.alignment, Unavailable):
        columns["mean_alignment"] = result.alignment.cosines.mean(1)
    return pd.DataFrame({"layer": result.layer, "target": result.target, **columns})


def choices(view: View) -> dict[str, object]:
    """Arguments of `reproducing.script("directions", …)` that stand for the page's controls."""
    return {"layer": view.layer, "target": target_of(view, TARGET), "keep_sinks": view.with_sinks}

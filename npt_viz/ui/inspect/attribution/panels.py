"""Attribution page: the answer, the scores as colours of the prompt, as bars and in a table."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.attribution import score_scale, scores_by_method, shown_scores
from npt_viz.figures.theme import colour_scale
from npt_viz.results.attribution import METHODS, SCORE, Attribution, rank_correlation
from npt_viz.results.sentences.attribution import attribution as sentence_of
from npt_viz.results.words import tenths
from npt_viz.ui.inspect.attribution.controls import KINDS
from npt_viz.ui.inspect.attribution.state import attribution_by, known_attributions, settled_quantity
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.inspecting import draw_again
from npt_viz.ui.widgets.prompt import Colours
from npt_viz.ui.widgets.tables import Cell, table
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Token that drives the quantity most, as soon as that is known."""
    quantity = settled_quantity(view)
    known = [each for each in known_attributions(view, quantity) if each.problem is None]
    if not known:
        where = f"{code(view.run.tokens[view.token])} #{view.token}"
        return f"Nothing is known yet about what drives the {KINDS[quantity.kind]} at {where}."
    return markdown(sentence_of(known[0]))


def colours(view: View) -> Colours:
    """Scores of the first method that is known as the prompt's colours; none as long as none is."""
    known = [each for each in known_attributions(view, settled_quantity(view)) if each.problem is None]
    if not known:
        unknown = np.full(len(view.run.pieces), np.nan)
        return Colours(values=unknown, scale=colour_scale(SCORE, unknown, view.theme), columns={})
    return Colours(
        values=shown_scores(known[0]),
        scale=score_scale(known[0], view.theme),
        columns={METHODS[each.method].label: shown_scores(each) for each in known},
    )


def attributions(view: View) -> list[Attribution]:
    """Attributions by the chosen methods, as far as computed; draws their cost and why one is missing."""
    quantity, attributions = settled_quantity(view), []
    methods = st.session_state["attribution_methods"]
    if not methods:
        st.info("Choose a method.")
    n_known = len(known_attributions(view, quantity))
    for method in methods:
        try:
            result = attribution_by(view, quantity, method)
        except NptVizError as error:
            st.info(plain(str(error)))
            return []
        if result is not None and result.problem:
            st.info(plain(result.problem))
        elif result is not None:
            attributions.append(result)
    if len(known_attributions(view, quantity)) > n_known:
        draw_again()  # The answer stands above, and now there is one.
    return attributions


def bars(view: View) -> list[Attribution]:
    """Bars of all methods, or what they wait for; the attributions that are drawn."""
    with st.container(key="main_figure"):
        drawn = attributions(view)
        if drawn:
            figure = scores_by_method(drawn, pin=view.token, shown=shown(view), theme=view.theme)
            chart(figure, key="attribution_bars", on_click=lambda bar: state.pin(int(bar[0])))
    return drawn


def checks(attributions: list[Attribution]) -> None:
    """What the bars are of, and the table of checks."""
    first = attributions[0]
    st.caption(
        f"{plain(first.name)}. Token 0 keeps its place in every baseline; tokens after the pin come later than the "
        "number and score exactly 0."
    )
    table(
        _rows(attributions),
        label="how far each method can be believed",
        formats={"delta": tenths},
        help={
            "all replaced": "the number with every token but the first replaced by the stand-in",
            "delta": "by how much the scores miss value − all replaced, of that change; only integrated gradients promise it",
            "forwards": "runs of the prompt, a gradient counted twice",
        },
    )
    for note in dict.fromkeys(note for each in attributions for note in each.notes):
        st.caption(plain(note))


def _rows(attributions: list[Attribution]) -> list[dict[str, Cell]]:
    """How far each method can be believed."""
    return [
        {
            "method": METHODS[each.method].label,
            "value": float(each.value),
            "all replaced": float(each.baseline_value),
            "sum of scores": float(each.scores.sum()),
            "delta": each.relative_delta,
        }
        | {
            f"rank correlation with {METHODS[other.method].label}": rank_correlation(each, other)
            for other in attributions
            if len(attributions) > 1
        }
        | {"forwards": each.forwards, "seconds": each.seconds}
        for each in attributions
    ]


def frame(attributions: list[Attribution]) -> pd.DataFrame:
    """One row a token, one column a method."""
    first = attributions[0]
    return pd.DataFrame(
        {"token": np.arange(len(first.tokens)), "glyph": first.tokens}
        | {each.method: each.scores for each in attributions}
    )

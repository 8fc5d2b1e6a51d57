"""Attribution page: the answer, the scores as a strip, as bars and in a table."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.attribution import score_scale, scores_by_method, shown_scores
from npt_viz.figures.theme import number
from npt_viz.results.attribution import METHODS, Attribution, rank_correlation
from npt_viz.results.sentences.attribution import attribution as sentence_of
from npt_viz.ui.inspect.attribution.controls import KINDS
from npt_viz.ui.inspect.attribution.state import attribution_by, known_attributions, settled_quantity
from npt_viz.ui.shell import state
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart, shown
from npt_viz.ui.widgets.strip import token_strip
from npt_viz.ui.widgets.view import View


def answer(view: View) -> str:
    """Token that drives the quantity most, as soon as that is known."""
    quantity = settled_quantity(view)
    known = [each for each in known_attributions(view, quantity) if each.problem is None]
    if not known:
        where = f"{code(view.run.tokens[view.token])} #{view.token}"
        return f"Nothing is known yet about what drives the {KINDS[quantity.kind]} at {where}."
    return markdown(sentence_of(known[0]))


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
        st.rerun()  # The answer stands above, and now there is one.
    return attributions


def scores(view: View, attributions: list[Attribution]) -> None:
    """Strip in the first method's colours, bars of all methods, and the table of checks."""
    first = attributions[0]
    token_strip(
        view.run.pieces,
        shown_scores(first),
        score_scale(first, view.theme),
        key="attribution_strip",
        pinned=view.token,
        on_pin=state.pin,
        columns={METHODS[each.method].label: shown_scores(each) for each in attributions},
    )
    figure = scores_by_method(attributions, pin=view.token, shown=shown(view), theme=view.theme)
    chart(figure, key="attribution_bars", on_click=lambda bar: state.pin(int(bar[0])))
    st.caption(
        f"{plain(first.name)}. Token 0 keeps its place in every baseline; tokens after the pin come later than the "
        "number and score exactly 0."
    )
    st.dataframe(_table(attributions), hide_index=True, height="content")
    for note in dict.fromkeys(note for each in attributions for note in each.notes):
        st.caption(plain(note))


def _table(attributions: list[Attribution]) -> pd.DataFrame:
    """How far each method can be believed."""
    rows = []
    for each in attributions:
        row = {
            "method": METHODS[each.method].label,
            "value": number(each.value),
            "all replaced": number(each.baseline_value),
            "sum of scores": number(float(each.scores.sum())),
            "delta": "–" if np.isnan(each.delta) else f"{each.relative_delta:.1%}",
        }
        row |= {
            f"rank correlation with {METHODS[other.method].label}": number(rank_correlation(each, other))
            for other in attributions
            if len(attributions) > 1
        }
        rows.append(row | {"forwards": f"{each.forwards:,}", "seconds": number(each.seconds)})
    return pd.DataFrame(rows)


def frame(attributions: list[Attribution]) -> pd.DataFrame:
    """One row a token, one column a method."""
    first = attributions[0]
    return pd.DataFrame(
        {"token": np.arange(len(first.tokens)), "glyph": first.tokens}
        | {each.method: each.scores for each in attributions}
    )

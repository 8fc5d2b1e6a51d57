"""Compare page: the aligned tokens coloured by their difference, the answer, scatter, next tokens, and lists."""

import numpy as np
import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.comparison import b_against_a, common_scale, difference_scale, marked, row_names
from npt_viz.figures.theme import ROLES, shortened
from npt_viz.results.comparison import COMPARED, Comparison
from npt_viz.results.glossary import explained
from npt_viz.results.inspection import METRICS, Inspection, TopTokens
from npt_viz.results.sentences.comparison import comparison as sentence_of
from npt_viz.results.words import number
from npt_viz.ui.compare.state import (
    column_of,
    compared,
    pin,
)
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.prompt import HEIGHTS, ask, box, prompt_view
from npt_viz.ui.widgets.tables import Bar, Cell, table
from npt_viz.ui.widgets.token_view import first_choices, pin_signal, token_view, token_view_data
from npt_viz.ui.widgets.view import View

LISTED = 8
"""Rows of the list of the largest differences."""

CANDIDATES = 5
"""Rows of the next-token table."""


def difference(view: View) -> None:
    """Draw the aligned prompts coloured by B − A; B's prompt alone where nothing can be compared."""
    try:
        found = compared(view)
    except NptVizError:
        prompt_view(view)
        return
    column = column_of(view, found)
    token_view(
        difference_data(view, found), key="prompt_view", on_pin=lambda *at: pin(found, *at), on_ask=ask
    )
    pin_signal(column, view.layer, key="prompt_pin")


def difference_data(view: View, found: Comparison) -> dict:
    """What the browser draws: B − A by row and column, with the numbers of both sides in the tooltip."""
    values, of_model = found.differences(view.metric_name), view.metric_name not in METRICS
    columns = found.columns(view.metric_name)
    rows: dict[str, np.ndarray | list[str]] = {
        "A": columns.a,
        "B": columns.b,
        "position in A": _positions(found, 0),
        "position in B": _positions(found, 1),
    }
    for name, run, side in (("A", found.a, 0), ("B", found.b, 1)):
        if run.npt_top is not None:
            rows[f"next, {name}"] = _along(found, side, first_choices(run.npt_top))
    return token_view_data(
        marked(found),
        values,
        difference_scale(found, view.metric_name, with_sinks=view.with_sinks, theme=view.theme),
        layers=[view.layer] if of_model else [b for _, b in found.rows],
        layer=view.layer,
        names=row_names(found, view.metric_name),
        left_out=found.is_sink & ~found.counts(with_sinks=view.with_sinks),
        columns=rows,
        parts=("strip", "profile", "map"),
        heights=HEIGHTS,
        prompt=box(),
    )


def answer(view: View) -> str:
    """Whether the number changes from A to B, and where; or why A and B cannot be compared."""
    try:
        return markdown(sentence_of(compared(view), view.metric_name, with_sinks=view.with_sinks))
    except NptVizError as error:
        return plain(str(error))


def beside(view: View) -> None:
    """B against A, a point a token, and what both expect after the pinned one."""
    try:
        found = compared(view)
    except NptVizError:
        return
    column = column_of(view, found)
    with st.container(key="main_figure"):
        figure = b_against_a(
            found, view.metric_name, with_sinks=view.with_sinks, pin=column, theme=view.theme
        )
        chart(figure, key="compare_scatter", on_click=lambda at: pin(found, int(at[0]), None))
        _next_tokens(found, column)


def _next_tokens(found: Comparison, column: int) -> None:
    """The most probable next tokens of both NPT models after the pinned token, side by side."""
    pair, token = found.pairs[column], found.tokens[column]
    tops = (_rows(found.a.npt_top, pair.a), _rows(found.b.npt_top, pair.b))
    rows: list[dict[str, Cell]] = [
        {
            f"{name}{unit}": value
            for name, top in zip("AB", tops, strict=True)
            for unit, value in zip(
                ("", ": p"), (top[i][0], top[i][2]) if i < len(top) else ("–", None), strict=True
            )
        }
        for i in range(min(CANDIDATES, max(map(len, tops))))
    ]  # fmt: skip
    if not rows:
        return
    only = {"same": "", "deleted": ", only in A", "inserted": ", only in B"}[pair.kind]
    rows = [{f"next after {shortened(token.glyph)}{only}, A": row.pop("A"), **row} for row in rows]
    table(
        rows,
        label="next tokens of A and B",
        formats={"A: p": "{:.3f}".format, "B: p": "{:.3f}".format},
        bars={"A: p": Bar(ROLES["base"]), "B: p": Bar(ROLES["npt"])},
        code=(next(iter(rows[0])), "B"),
    )


def _rows(top: TopTokens | None, token: int | None) -> list[tuple[str, int, float]]:
    return [] if top is None or token is None else top.rows(token)


def largest(view: View) -> None:
    """The largest differences, those that stand out first, with what they are held against."""
    found = _found(view)
    if found is None:
        return
    listed = found.largest(view.metric_name, LISTED, with_sinks=view.with_sinks)
    spread = found.spread(view.metric_name, with_sinks=view.with_sinks)
    if not listed:
        return
    known = np.isfinite(spread.size)
    what = "what rounding alone can do" if spread.is_rounding else "three robust standard deviations"
    st.caption(
        f"Largest differences of {COMPARED[view.metric_name].label}: {len(listed)} of {spread.n:,} tokens"
        + (
            f"; spread {number(spread.size)} around {number(spread.middle)} ({what})"
            if known
            else "; too few for a spread"
        )
    )
    table(
        [
            {
                "token": each.token.glyph,
                "in A": each.pair.a,
                "in B": each.pair.b,
                "A": each.a,
                "B": each.b,
                "B − A": each.difference,
                "beyond the spread": "yes" if each.stands_out else "no" if known else "–",
                **_first(found.a, each.pair.a, "A"),
                **_first(found.b, each.pair.b, "B"),
            }
            for each in listed
        ],
        label="largest differences",
        formats={"A: p": "{:.2f}".format, "B: p": "{:.2f}".format},
        code=("token", "next, A", "next, B"),
        help={"beyond the spread": explained("spread of the differences")},
    )


def _first(run: Inspection, token: int | None, name: str) -> dict[str, Cell]:
    """Two columns: the most probable next token of a side, and its probability."""
    rows = _rows(run.npt_top, token)
    return {f"next, {name}": rows[0][0] if rows else "–", f"{name}: p": rows[0][2] if rows else None}


def every_number(view: View) -> None:
    """A, B and B − A of every number at the pinned token, beside the medians of the prompt."""
    found = _found(view)
    if found is None:
        return
    column, counts = column_of(view, found), found.counts(with_sinks=view.with_sinks)
    rows: list[dict[str, Cell]] = []
    for name in found.metrics:
        a, b = found.columns(name)
        rows.append(
            {
                "number": COMPARED[name].label, "A": float(a[column]), "B": float(b[column]),
                "B − A": float(b[column] - a[column]), "median of A": _median(a[counts]), "median of B": _median(b[counts]),
                "median of B − A": _median((b - a)[counts]),
            }
        )  # fmt: skip
    st.caption(
        f"At the pinned token, column {column} of {len(found.pairs):,}; medians of {int(counts.sum()):,} tokens."
    )
    table(rows, label="every number of A and B")


def _median(values: np.ndarray) -> float:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if kept.size else float("nan")


def side_by_side(view: View) -> None:
    """A and B, each with its own tokens, coloured on one scale."""
    found = _found(view)
    if found is None:
        return
    counts = found.counts(with_sinks=view.with_sinks)
    scale = common_scale(found, view.metric_name, with_sinks=view.with_sinks, theme=view.theme)
    pinned = found.pairs[column_of(view, found)]
    for side, (name, run) in enumerate((("A", found.a), ("B", found.b))):
        columns = found.columns(view.metric_name)[side]
        here = [(i, pair[side]) for i, pair in enumerate(found.pairs) if pair[side] is not None]
        data = token_view_data(
            run.pieces,
            columns[[i for i, _ in here]][None],
            scale,
            layers=[found.layers[side]],
            layer=found.layers[side],
            names=[name],
            left_out=run.is_sink & ~np.array([counts[i] for i, _ in here]),
            parts=("strip",),
            heights=HEIGHTS,
            channel=f"side {name}",
        )
        st.markdown(f"**{name}**")
        token_view(
            data,
            key=f"compare_side_{name}",
            on_pin=lambda token, layer, side=side: pin(found, _column(found, side, token), None),
        )
        pin_signal(pinned[side], None, key=f"compare_pin_{name}", channel=f"side {name}")


def _column(found: Comparison, side: int, token: int) -> int:
    return next(i for i, pair in enumerate(found.pairs) if pair[side] == token)


def frame(view: View) -> pd.DataFrame:
    """A, B and B − A of every number, a row a token and pair of layers."""
    return compared(view).to_frame()


def about(view: View) -> dict[str, str]:
    """What A and B are, for what is carried away."""
    found = _found(view)
    return {} if found is None else {name: side.words for name, side in zip("AB", found.sides, strict=True)}


def _found(view: View) -> Comparison | None:
    """The comparison; None where the answer has said why there is none."""
    try:
        return compared(view)
    except NptVizError:
        return None


def _positions(found: Comparison, side: int) -> list[str]:
    return ["–" if pair[side] is None else f"#{pair[side]}" for pair in found.pairs]


def _along(found: Comparison, side: int, texts: list[str]) -> list[str]:
    return ["–" if (at := pair[side]) is None else texts[at] for pair in found.pairs]

"""A page, or one figure of it, as one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from npt_viz.figures import document
from npt_viz.figures.theme import Theme
from npt_viz.results.words import number

MOST_ROWS = 500
"""Rows of a table in a report; the CSV has all of them."""


def report(
    title: str,
    question: str,
    *,
    about: Mapping[str, str],
    sentence: str,
    figures: Mapping[str, go.Figure],
    table: pd.DataFrame | None = None,
    theme: Theme = "light",
) -> str:
    """HTML of a page: what was asked about what, the sentence, the figures in the colours they have, the table.

    about: what is open and how it is evaluated, by name. figures: name -> figure.
    """
    blocks = [
        document.paragraph(question),
        document.rows(("", ""), list(about.items())),
        document.paragraph(sentence),
    ]
    for name, figure in figures.items():
        blocks += [document.heading(name), document.drawn(go.Figure(figure))]
    if table is not None:
        blocks += [document.heading("Table"), *_table(table)]
    return document.document(title, blocks, theme=theme)


def single(name: str, figure: go.Figure, *, sentence: str = "", theme: Theme = "light") -> str:
    """HTML of one figure under its name."""
    return document.document(
        name, [document.paragraph(sentence), document.drawn(go.Figure(figure))], theme=theme
    )


def _table(table: pd.DataFrame) -> Sequence[str]:
    shown = table.head(MOST_ROWS)
    cells = [
        [number(value) if isinstance(value, float) else value for value in row]
        for row in shown.itertuples(index=False)
    ]
    blocks = [document.rows(list(map(str, table.columns)), cells)]
    if len(table) > MOST_ROWS:
        blocks.append(document.note(f"The first {MOST_ROWS:,} of {len(table):,} rows."))
    return blocks

"""A page, or one figure of it, as one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from npt_viz.figures import document
from npt_viz.figures.theme import Theme
from npt_viz.results.words import number

MOST_ROWS = 500
"""Rows of a table in a report; the CSV has all of them."""

MOST_ROWS_OF_A_PART = 100
"""Rows of a table in a report of several things."""


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


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several things in a report, without figures."""

    title: str
    about: Mapping[str, str]
    sentence: str
    picture: str = ""
    """SVG."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    note: str = ""
    """Why there is no table, where there is none."""


def collection(title: str, parts: Sequence[Part], *, theme: Theme = "light") -> str:
    """HTML of several things one after the other: facts, picture, sentence and tables of each."""
    blocks = []
    for part in parts:
        blocks += [document.heading(part.title), document.rows(("", ""), list(part.about.items()))]
        blocks += [document.picture(part.picture)] * bool(part.picture)
        blocks.append(document.paragraph(part.sentence))
        for name, table in part.tables.items():
            blocks += [document.note(name), *_table(table, MOST_ROWS_OF_A_PART)]
        blocks += [document.note(part.note)] * bool(part.note)
    return document.document(title, blocks, theme=theme, plotly=False)


def _table(table: pd.DataFrame, most: int = MOST_ROWS) -> Sequence[str]:
    shown = table.head(most)
    cells = [
        [number(value) if isinstance(value, float) else value for value in row]
        for row in shown.itertuples(index=False)
    ]
    blocks = [document.rows(list(map(str, table.columns)), cells)]
    if len(table) > most:
        blocks.append(document.note(f"The first {most:,} of {len(table):,} rows."))
    return blocks

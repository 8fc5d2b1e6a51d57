"""Small tables as HTML: light, exact text, numbers right-aligned; a grid is for hundreds of rows."""

import html
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import streamlit as st

from npt_viz.figures.theme import ROLES
from npt_viz.results.editing import NextToken
from npt_viz.results.words import number

Cell = str | int | float | None


LONGEST_LINE = 11
"""Characters of a token in a line of a table; a longer one has several lines, and all of its characters."""

_WRAPPED = f"display:inline-block;width:{LONGEST_LINE}ch;white-space:pre-wrap;overflow-wrap:anywhere"


@dataclass(frozen=True)
class Bar:
    """A number drawn as a bar beside it."""

    colour: str
    """CSS colour, from figures/theme.py."""

    full: float = 1.0
    """Value of a whole bar; its length is the share of it, between nothing and all."""


def table(
    rows: Sequence[Mapping[str, Cell]],
    *,
    label: str,
    formats: Mapping[str, Callable[[float], str]] | None = None,
    bars: Mapping[str, Bar] | None = None,
    code: Collection[str] = (),
    help: Mapping[str, str] | None = None,
    row_help: Mapping[str, str] | None = None,
) -> None:
    """Draw rows of the same columns; see `table_html`. Draws nothing where there are no rows."""
    if rows:
        st.html(
            table_html(rows, label=label, formats=formats, bars=bars, code=code, help=help, row_help=row_help)
        )


def next_token_table(rows: Sequence[NextToken], *, sides: tuple[str, str], label: str) -> None:
    """Draw next-token candidates in two versions of a model, with their ranks. sides: what the two are called."""
    before, after = sides
    full = max([1e-9, *(p for row in rows for p in (row.probability_before, row.probability_after))])
    table(
        [
            {
                "next token": row.glyph,
                before: row.probability_before,
                after: row.probability_after,
                "rank": f"{row.rank_after:,}"
                if row.rank_before == row.rank_after
                else f"{row.rank_before:,} → {row.rank_after:,}",
            }
            for row in rows
        ],
        label=label,
        bars={before: Bar(ROLES["base"], full), after: Bar(ROLES["edited"], full)},
        code=("next token",),
    )


def table_html(
    rows: Sequence[Mapping[str, Cell]],
    *,
    label: str,
    formats: Mapping[str, Callable[[float], str]] | None = None,
    bars: Mapping[str, Bar] | None = None,
    code: Collection[str] = (),
    help: Mapping[str, str] | None = None,
    row_help: Mapping[str, str] | None = None,
) -> str:
    """HTML of a table. All text, headers included, is shown exactly as it is: no Markdown, no markup.

    label: what the table is, for screen readers.
    formats: column -> text of its numbers; three significant digits where none is given, and whole numbers whole.
    bars: column -> the bar beside its numbers. code: columns of tokens, in the font of code.
    help: column -> a sentence shown over its header.
    row_help: text of a row's first cell, which then heads the row -> a sentence shown over it.
    None and NaN are an en dash. Raises ValueError where a row has other columns than the first.
    """
    formats, bars, help, heads = formats or {}, bars or {}, help or {}, row_help or {}
    names = list(rows[0]) if rows else []
    for i, row in enumerate(rows):
        if list(row) != names:
            raise ValueError(f"{label}: row {i} has the columns {list(row)}, the first has {names}")
    numeric = {name for name in names if any(_is_number(row[name]) for row in rows)}
    head = "".join(_header(name, name in numeric, help.get(name)) for name in names)
    body = "".join(
        f"<tr>{_row_head(row, names, heads)}{''.join(_cell(row[name], name in numeric, formats.get(name), bars.get(name), name in code) for name in names[1 if row[names[0]] in heads else 0 :])}</tr>"
        for row in rows
    )
    return (
        f'<div class="npt-table"><table aria-label="{html.escape(label)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _header(name: str, is_numeric: bool, help: str | None) -> str:
    title = f' title="{html.escape(help)}"' if help else ""
    kind = " ".join(["number"] * is_numeric + ["helped"] * bool(help))
    return f'<th scope="col" class="{kind}"{title}>{html.escape(name)}</th>'


def _row_head(row: Mapping[str, Cell], names: Sequence[str], heads: Mapping[str, str]) -> str:
    """First cell of a row where it explains the row; else nothing."""
    value = row[names[0]]
    if not isinstance(value, str) or value not in heads:
        return ""
    return f'<th scope="row" class="helped" title="{html.escape(heads[value])}">{html.escape(value)}</th>'


def _cell(
    value: Cell, is_numeric: bool, form: Callable[[float], str] | None, bar: Bar | None, is_code: bool
) -> str:
    kind = " ".join(["number"] * is_numeric + ["code"] * is_code)
    text = html.escape(_text(value, form))
    if is_code and len(str(value)) > LONGEST_LINE:
        text = f'<span style="{_WRAPPED}">{text}</span>'
    if bar is None or not _is_number(value):
        return f'<td class="{kind}">{text}</td>'
    share = min(max(float(value) / bar.full, 0.0), 1.0) if math.isfinite(float(value)) else 0.0
    fill = f'<i style="width:{100 * share:.1f}%;background:{html.escape(bar.colour)}"></i>'
    return f'<td class="{kind} barred"><span class="bar">{fill}</span><span>{text}</span></td>'


def _text(value: Cell, form: Callable[[float], str] | None) -> str:
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "–"
    if form is not None:
        return form(value)
    return f"{value:,}".replace("-", "−") if isinstance(value, int) else number(float(value))


def _is_number(value: Cell) -> TypeGuard[int | float]:
    return value is not None and not isinstance(value, str)

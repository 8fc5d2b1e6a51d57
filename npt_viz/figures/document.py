"""One HTML file that needs nothing else: no server, no network. Words in it are text, never markup."""

import base64
import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from npt_viz.figures.theme import INK, PAPER, Theme

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .25rem .7rem; text-align: right }
th { border-bottom: 1px solid #868b95 } td:first-child, th:first-child { text-align: left }
.note { color: #5c6370; font-size: 13px } .worse { color: #3b7fba } .better { color: #a95012 }
"""


def document(title: str, blocks: Iterable[str], *, theme: Theme = "light", plotly: bool = True) -> str:
    """The whole file. blocks: what the functions below return, in order; plotly is in it once, or not at all."""
    colours = f"html {{ color-scheme: {theme}; color: {INK[theme]}; background: {PAPER[theme]} }}"
    code = f"<script>{get_plotlyjs()}</script>" if plotly else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{text(title)}</title><style>{colours}{STYLE}</style>{code}"
        f"<body><h1>{text(title)}</h1>{''.join(blocks)}</body></html>"
    )


def heading(words: str) -> str:
    """Block: the name of a part."""
    return f"<h2>{text(words)}</h2>"


def paragraph(words: str) -> str:
    """Block: a paragraph."""
    return f"<p>{text(words)}</p>"


def note(words: str) -> str:
    """Block: a remark, in small print."""
    return f"<p class=note>{text(words)}</p>"


def drawn(figure: go.Figure) -> str:
    """Block: a figure, as wide as the page."""
    figure.update_layout(width=None)
    return figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )


def picture(svg: str) -> str:
    """Block: an SVG as an image, in which nothing runs."""
    return f'<p><img alt="" src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"></p>'


def rows(headers: Sequence[str], cells: Iterable[Sequence[object]]) -> str:
    """Block: a table."""
    head = "".join(f"<th>{text(cell)}</th>" for cell in headers)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><tr>{head}</tr>{body}</table>"


def text(value: object) -> str:
    """Text as HTML shows it exactly."""
    return html.escape(str(value))

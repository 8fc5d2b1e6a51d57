"""A document shows words as they are: nothing in them becomes markup."""

import html
import re

import plotly.graph_objects as go

from npt_viz.figures.document import document, drawn, heading, note, paragraph, rows

HOSTILE = '</title></script><b onclick="x">&amp;'


def test_words_are_text_wherever_they_stand():
    blocks = [heading(HOSTILE), paragraph(HOSTILE), note(HOSTILE), rows([HOSTILE], [[HOSTILE]])]
    page = document(HOSTILE, blocks)
    head = page[: page.index("<style>")]
    assert head.endswith(f"<title>{html.escape(HOSTILE)}</title>")
    body = page[page.rindex("<body>") :]
    assert body.count(html.escape(HOSTILE)) == 6
    assert re.findall(r"<(\w+)", body) == ["body", "h1", "h2", "p", "p", "table", "tr", "th", "tr", "td"]


def test_a_label_of_a_figure_cannot_end_its_script():
    block = drawn(go.Figure(go.Bar(x=[HOSTILE], y=[1])))
    assert block.count("</script>") == block.count("<script") and "<b " not in block

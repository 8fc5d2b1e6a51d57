"""Small tables: text exactly as it is, numbers aligned and rounded, bars as long as their share."""

import html.parser
import math

import pytest

from npt_viz.ui.widgets.tables import Bar, table_html


class Read(html.parser.HTMLParser):
    """What a browser reads: a list of (tag, attributes) and the text of each cell."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data):
        self.cells[-1] += data


def test_text_is_shown_exactly_and_is_never_markup():
    nasty = '<b>x</b> **y** $q$ &amp; "z" <script>'
    read = Read(table_html([{nasty: nasty}], label=nasty, help={nasty: nasty}))
    assert read.cells == [nasty, nasty]
    assert [tag for tag, _ in read.tags] == ["div", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert read.tags[1][1]["aria-label"] == nasty and read.tags[4][1]["title"] == nasty


def test_numbers_are_rounded_aligned_and_missing_ones_are_dashes():
    rows = [{"a": "␣of", "b": 0.123456, "n": -12345}, {"a": "x", "b": math.nan, "n": None}]
    read = Read(table_html(rows, label="t", code=["a"]))
    assert read.cells == ["a", "b", "n", "␣of", "0.123", "−12,345", "x", "–", "–"]
    kinds = [attributes["class"] for tag, attributes in read.tags if tag == "td"]
    assert kinds == ["code", "number", "number"] * 2


def test_a_format_of_its_own_wins():
    assert Read(table_html([{"p": 0.5}], label="t", formats={"p": "{:.3f}".format})).cells == ["p", "0.500"]


@pytest.mark.parametrize(
    "value, width", [(0.25, "12.5%"), (3.0, "100.0%"), (-1.0, "0.0%"), (math.inf, "0.0%")]
)
def test_a_bar_is_as_long_as_its_share_and_never_leaves_its_cell(value, width):
    read = Read(table_html([{"p": value}], label="t", bars={"p": Bar("#123456", full=2.0)}))
    assert read.tags[-2] == ("i", {"style": f"width:{width};background:#123456"})


def test_rows_of_other_columns_are_refused():
    with pytest.raises(ValueError, match="row 1 has the columns"):
        table_html([{"a": 1}, {"b": 1}], label="t")

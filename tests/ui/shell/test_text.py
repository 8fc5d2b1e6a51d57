"""Untrusted text as Markdown that shows exactly that text."""

import re
import string

import pytest

from npt_viz.results.sentences import Exact, Quoted, Strong, said
from npt_viz.ui.shell.text import code, markdown, plain, unmarked

NASTY = [
    "<b>bold</b>",
    "**bold** _it_",
    ":red[x]",
    "$x^2$",
    "[a](http://b)",
    "`code`",
    "# title",
    ":smile:",
    "a|b",
    "~~x~~",
]


@pytest.mark.parametrize("text", NASTY)
def test_plain_leaves_no_punctuation_to_markdown(text):
    shown = plain(text)
    assert not set(re.sub(r"\\.", "", shown)) & set(string.punctuation)
    assert re.sub(r"\\(.)", r"\1", shown).replace("\u2060", "") == text


def test_an_emoji_shortcode_is_broken_up():
    assert ":smile:" not in plain(":smile:").replace("\\", "")


@pytest.mark.parametrize("text", NASTY)
def test_code_is_one_span_with_the_text_inside(text):
    fence = re.match("`+", code(text))[0]
    inside = code(text).removeprefix(fence).removesuffix(fence)
    assert fence not in re.findall("`+", inside)
    assert inside.strip(" ").replace("\u00a0", " ") == text


def test_newlines_do_not_end_a_paragraph():
    assert "\n" not in plain("a\n\n# b") and "\n" not in code("a\n\nb")


@pytest.mark.parametrize("text", [*NASTY, "a b", "``", "`x", "x\\y", "2 * 3 ** 4", "\\*"])
@pytest.mark.parametrize("kind", [Exact, Quoted])
def test_the_words_of_a_sentence_come_back_from_its_markdown(text, kind):
    sentence = said(Strong("41 %"), " of what ", kind(text), " does, see ", Strong("layer 3"), ".")
    assert unmarked(markdown(sentence)) == str(sentence)

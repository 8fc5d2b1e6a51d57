"""Untrusted text on a page: file names, token text and error messages, shown exactly.

st.markdown, st.error, st.caption and every label read Markdown, LaTeX, :colour[directives] and :emoji:. Text that
comes from a file or a prompt goes through here first.
"""

import re

from npt_viz.results.sentences import Exact, Quoted, Sentence, Strong

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# An escaped character; a span of code within its fence, with a pad beside a backtick; what makes bold.
_MARKS = re.compile(r"\\([!-/:-@\[-`{-~])|(`+)( ?)(.+?)\3\2(?!`)|\*\*")
_SHORTCODE = re.compile(r":(?=[\w+/-]+:)")


def plain(text: str) -> str:
    """Markdown that shows this text and nothing else; whitespace runs are one space."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    # A word joiner stops emoji shortcodes, which are replaced after the backslashes are read.
    return _PUNCTUATION.sub(r"\\\1", _SHORTCODE.sub(":\u2060", text))


def markdown(sentence: Sentence) -> str:
    """Markdown of a sentence: what is strong in bold, what is exact in the code font, what is quoted without markup."""
    return "".join(map(_part, sentence.parts))


def _part(part: str) -> str:
    if isinstance(part, Exact):
        return code(part)
    if isinstance(part, Quoted):
        return _escaped(part)
    return f"**{part}**" if isinstance(part, Strong) else part


def unmarked(text: str) -> str:
    """The words of safe Markdown, as `markdown`, `plain` and `code` make it."""
    return (
        _MARKS.sub(lambda found: found[1] or found[4] or "", text)
        .replace("\u2060", "")
        .replace("\u00a0", " ")
    )


def as_sentence(text: str) -> str:
    """An error's words as a sentence of their own: `plain`, with a capital and a full stop."""
    return plain(text[:1].upper() + text[1:].rstrip(".") + ".")


def code(text: str) -> str:
    """Markdown that shows this text in the code font, whatever backticks it has and every space of it."""
    text = re.sub(r"\s", "\u00a0", text) or "\u00a0"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"

"""What kind of token a token is: by its text, by its script, by its place. The one home of these rules.

Every token is of one class, the first that fits: sink, special, bytes, white space, number, punctuation, word start, word
continuation, other. It is of one script, that of its first letter, and in one range of places in its window.
"""

import unicodedata
from typing import NamedTuple

import numpy as np

from npt_viz.model.tokens import token_text
from npt_viz.results.scan import CLASSES, PLACES, SCRIPTS

SINK, SPECIAL, BYTES, BLANK, NUMBER, PUNCTUATION, START, CONTINUATION, OTHER = range(len(CLASSES))
NO_LETTER, OTHER_SCRIPT = SCRIPTS.index("no letter"), SCRIPTS.index("other script")

_SCRIPT_OF = {name.upper(): i for i, name in enumerate(SCRIPTS)} | {"CJK": SCRIPTS.index("Han")}
"""First word of a letter's Unicode name -> index in SCRIPTS."""


class Kind(NamedTuple):
    """What the text of a token says of it."""

    of_text: int
    """Index in CLASSES; START for every token whose first sign is a letter."""
    script: int
    """Index in SCRIPTS."""
    begins_apart: bool
    """Whether white space comes before its first sign."""
    ends_in_word: bool
    """Whether it ends with a letter, a mark or a digit, so that letters that follow belong to the same word."""


def kind_of(text: str | None) -> Kind:
    """Kind of a token with this text; None for a special one."""
    if text is None:
        return Kind(SPECIAL, NO_LETTER, False, False)
    if any("\ud800" <= char <= "\udfff" for char in text):
        return Kind(BYTES, NO_LETTER, False, False)
    signs = text.strip()
    if not signs:
        return Kind(BLANK, NO_LETTER, False, False)
    letters = [char for char in signs if char.isalpha()]
    script = _script(letters[0]) if letters else NO_LETTER
    groups = {unicodedata.category(char)[0] for char in signs}
    if groups <= {"L", "M"} or signs[0].isalpha():
        of_text = START
    elif not letters and "N" in groups:
        of_text = NUMBER
    elif not letters and groups <= {"P", "S"}:
        of_text = PUNCTUATION
    else:
        of_text = OTHER
    return Kind(of_text, script, text[0].isspace(), unicodedata.category(text[-1])[0] in "LMN")


def _script(letter: str) -> int:
    return _SCRIPT_OF.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0], OTHER_SCRIPT)


class TokenKinds:
    """Kinds of the tokens of one vocabulary, each worked out once."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kinds: dict[int, Kind] = {}

    def classes(self, ids: np.ndarray, is_first: np.ndarray, is_sink: np.ndarray) -> np.ndarray:
        """(token,) index in CLASSES.

        ids: (token,) of windows one after the other. is_first: (token,) whether it begins a window.
        """
        kinds = self._of(ids)
        classes = np.array([kind.of_text for kind in kinds], np.int64)
        within = np.array([False, *(kind.ends_in_word for kind in kinds[:-1])]) & ~is_first
        goes_on = within & ~np.array([kind.begins_apart for kind in kinds])
        classes[(classes == START) & goes_on] = CONTINUATION
        classes[is_sink] = SINK
        return classes

    def scripts(self, ids: np.ndarray) -> np.ndarray:
        """(token,) index in SCRIPTS."""
        return np.array([kind.script for kind in self._of(ids)], np.int64)

    def _of(self, ids: np.ndarray) -> list[Kind]:
        for token_id in set(ids.tolist()) - self._kinds.keys():
            self._kinds[token_id] = kind_of(token_text(self._tokenizer, token_id))
        return [self._kinds[token_id] for token_id in ids.tolist()]


def places(position: np.ndarray) -> np.ndarray:
    """(token,) index in PLACES of positions in a window."""
    return np.searchsorted([place.first for place in PLACES], position, side="right") - 1

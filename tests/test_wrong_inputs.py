"""Every input that cannot be taken gets the sentence of docs/errors.md: none a traceback, none that names no cause."""

import re

import pytest
from wrong_inputs import DOCUMENT, READERS, WRITERS, cell, rows, said

DOCUMENTED = [
    [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| input")
]
"""[input, places, sentence] of the table."""

ROWS = rows()


@pytest.mark.parametrize("words", list(dict.fromkeys(words for words, _, _ in ROWS)))
def test_the_table_says_what_is_said(words):
    documented = {
        (place, sentence)
        for each, places, sentence in DOCUMENTED
        if each == words
        for place in places.split(", ")
    }
    assert {(place, cell(said(run))) for each, place, run in ROWS if each == words} == documented


def test_the_table_has_these_inputs_and_no_others():
    assert {each[0] for each in DOCUMENTED} == {words for words, _, _ in ROWS}
    assert len(READERS) + len(WRITERS) > 10


def test_every_sentence_says_what_to_do():
    for words, _, sentence in DOCUMENTED:
        assert ";" in sentence or sentence.startswith("opens"), words
        assert "foresee" not in sentence and "Traceback" not in sentence and "\n" not in sentence
        assert len(sentence) <= 300, words

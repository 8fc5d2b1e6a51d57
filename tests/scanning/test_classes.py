"""Classes, scripts and places of tokens, by hand."""

import numpy as np
import pytest

from npt_viz.results.scan import CLASSES, PLACES, SCRIPTS
from npt_viz.scanning.classes import TokenKinds, kind_of, places

ALONE = {
    " the": ("word start", "Latin"),
    "Straße": ("word start", "Latin"),
    " мир": ("word start", "Cyrillic"),
    "世界": ("word start", "Han"),
    "ひら": ("word start", "Hiragana"),
    "한": ("word start", "Hangul"),
    "שלום": ("word start", "Hebrew"),
    "नम": ("word start", "Devanagari"),
    " 17": ("number", "no letter"),
    "½": ("number", "no letter"),
    "3.": ("number", "no letter"),
    " —": ("punctuation", "no letter"),
    "+=": ("punctuation", "no letter"),
    "\n\n": ("white space", "no letter"),
    "'t": ("other", "Latin"),
    "\udce2\udc82": ("broken bytes", "no letter"),
    None: ("special", "no letter"),
    "ᚠ": ("word start", "other script"),
}


@pytest.mark.parametrize("text", ALONE, ids=repr)
def test_a_token_by_its_text(text):
    kind = kind_of(text)
    assert (CLASSES[kind.of_text], SCRIPTS[kind.script]) == ALONE[text]


def test_letters_go_on_where_no_word_ends(tiny_llama):
    text = "ab c1d, e\nf?g"
    ids = np.array(tiny_llama.tokenizer(text)["input_ids"])
    is_first = np.arange(len(ids)) == 0
    is_sink = np.array([char == "?" for char in text])
    kinds = TokenKinds(tiny_llama.tokenizer)
    named = [CLASSES[i] for i in kinds.classes(ids, is_first, is_sink)]
    short = {
        "word start": "S",
        "word continuation": "c",
        "white space": "_",
        "number": "1",
        "punctuation": ",",
        "sink": "!",
    }
    assert "".join(short[name] for name in named) == "Sc_S1c,_S_S!S"
    again = kinds.classes(ids, (is_first | (np.arange(len(ids)) == 1)), is_sink)
    assert CLASSES[again[1]] == "word start", "a window begins there"


def test_places_are_ranges_that_follow_each_other():
    position = np.array([0, 1, 3, 4, 15, 16, 63, 64, 255, 256, 1023, 1024, 4095, 4096, 99_999])
    labels = [PLACES[i].label for i in places(position)]
    assert labels[:3] == ["0", "1–3", "1–3"] and labels[-2:] == ["from 4,096"] * 2
    assert labels[3:13] == [
        label for label in ("4–15", "16–63", "64–255", "256–1,023", "1,024–4,095") for _ in "xx"
    ]

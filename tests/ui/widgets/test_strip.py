"""What the browser gets to draw the strip: texts and colours, one of each for every token."""

import json

import numpy as np

from npt_viz.figures.theme import colour_scale
from npt_viz.results.inspection import METRICS, Token
from npt_viz.ui.widgets.strip import strip_data

PIECES = (
    Token("<|im_start|>", "special", 1, "'<|im_start|>'"),
    Token("<b>", "text", 77, "'<b>'"),
    Token("⟨0xE2⟩", "bytes", 5, "b'\\xe2'"),
)
VALUES = np.array([30.0, 0.5, np.nan])


def data(**options) -> dict:
    scale = colour_scale(METRICS["relative_error"], VALUES[1:], options.pop("theme", "light"))
    given = {"pinned": 1, "left_out": np.array([True, False, False]), "columns": {}} | options
    return strip_data(PIECES, VALUES, scale, **given)


def test_every_token_has_its_text_its_kind_and_its_colour():
    made = data()
    assert made["glyphs"] == ["<|im_start|>", "<b>", "⟨0xE2⟩"]
    assert made["kinds"] == ["special", "text", "bytes"]
    assert made["colours"][1].startswith("#") and made["colours"][2] is None
    assert made["left_out"] == [True, False, False] and made["pinned"] == 1


def test_tooltips_have_every_number_as_text_and_mark_the_coloured_one():
    columns = {"relative error": VALUES, "next, base": ["␣a 0.50", "b 0.25", "c 1.00"]}
    error, following = data(columns=columns)["columns"]
    assert error == {"label": "relative error", "values": ["30", "0.5", "–"], "coloured": True}
    assert following["values"][1] == "b 0.25" and not following["coloured"]


def test_the_legend_counts_tokens_and_says_what_the_colour_means():
    legend = data()["legend"]
    assert legend["count"] == "3 tokens, 1 sink left out"
    assert legend["label"] == "relative error" and METRICS["relative_error"].meaning in legend["meaning"]
    assert (legend["low"], legend["high"]) == ("0", "0.5")


def test_a_screen_reader_hears_token_and_value():
    assert data()["spoken"][1] == "<b>, token 1, relative error 0.5"


def test_it_is_plain_json():
    assert json.loads(json.dumps(data())) == data()

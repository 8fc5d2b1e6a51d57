"""What the browser gets to draw a token view: the numbers bit for bit, texts, ranges and colours."""

import base64
import json
import re

import numpy as np
import pytest
import streamlit as st

from npt_viz.figures.theme import colour_scale
from npt_viz.figures.token_view import HERE
from npt_viz.results.inspection import METRICS, Token
from npt_viz.ui.widgets import token_view as module
from npt_viz.ui.widgets.token_view import PromptBox, pin_signal, token_view, token_view_data

PIECES = (
    Token("<|im_start|>", "special", 1, "'<|im_start|>'"),
    Token("<b>", "text", 77, "'<b>'"),
    Token("⟨0xE2⟩", "bytes", 5, "b'\\xe2'"),
    Token("␣of", "text", 11, "' of'"),
    Token("↵", "text", 13, "'\\n'"),
)
VALUES = np.array(
    [[900.0, 0.5, np.nan, 0.25, 0.1], [800.0, -0.5, 0.75, 1 / 3, np.inf], [7.0, 3.0, 2.0, 1.0, 4.0]]
)
LAYERS = (3, 15, 7)
SINK = np.array([True, False, False, False, False])


def data(values=VALUES, metric="relative_error", **options) -> dict:
    scale = colour_scale(METRICS[metric], values[:, ~SINK], options.pop("theme", "light"))
    given = {"layers": LAYERS, "layer": 15, "left_out": SINK} | options
    return token_view_data(PIECES, values, scale, **given)


def floats(text: str) -> np.ndarray:
    """As JavaScript's Float32Array on a little-endian machine reads it."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_numbers_come_back_bit_for_bit_nan_included():
    made = data()
    back = floats(made["values"]).reshape(3, 5)
    np.testing.assert_array_equal(back, VALUES.astype(np.float32))
    # Row after row, for another memory order too.
    turned = np.asfortranarray(VALUES.astype(">f8"))
    assert data(turned)["values"] == made["values"]


def test_columns_of_the_tooltip_are_numbers_or_texts():
    numbers = np.array([1.5, np.nan, -np.inf, 0.1, 7.0])
    made = data(columns={"cosine": numbers, "next, base": ["a", "<b>", "c", "d", "e"]})
    cosine, following = made["columns"]
    np.testing.assert_array_equal(floats(cosine["numbers"]), numbers.astype(np.float32))
    assert cosine["label"] == "cosine" and following["texts"] == ["a", "<b>", "c", "d", "e"]


def test_tokens_have_their_text_and_kind_and_sinks_are_named_by_index():
    made = data()
    assert made["glyphs"] == ["<|im_start|>", "<b>", "⟨0xE2⟩", "␣of", "↵"]
    assert made["kinds"] == ["special", "text", "bytes", "text", "text"]
    assert made["raws"][2] == "b'\\xe2'" and made["ids"] == [1, 77, 5, 11, 13]
    assert made["left_out"] == [0] and made["count"] == "5 tokens, 1 sink left out"
    assert data(left_out=None)["left_out"] == [] and data(left_out=None)["count"] == "5 tokens"


def test_ranges_and_medians_count_neither_sinks_nor_what_is_no_number():
    first, second, third = data()["rows"]
    assert first["median"] == pytest.approx(0.25) and first["most"] == 0.5
    assert second["least"] == -0.5 and second["most"] == 0.75 and second["median"] == pytest.approx(1 / 3)
    assert second["low"] < -0.5 and second["high"] > 0.75
    assert third["low"] == 0 and third["median"] == 2.5  # Bars stand on the reference.
    nothing = data(np.full((3, 5), np.nan))["rows"][0]
    assert (nothing["median"], nothing["least"], nothing["most"]) == (None, None, None)
    assert nothing["low"] < nothing["high"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_shades_are_the_colours_of_the_scale_and_ink_can_be_read_on_them(theme):
    scale = colour_scale(METRICS["recovered"], VALUES[:, 1:], theme)
    metric = data(metric="recovered", theme=theme)["metric"]
    shades = metric["shades"]
    assert len(shades) == len(metric["inks"]) == 256
    assert [shades[0], shades[-1]] == scale.colours(np.array([scale.low, scale.high]))
    for value in np.random.default_rng(0).uniform(scale.low, scale.high, 41):
        step = round((value - scale.low) / (scale.high - scale.low) * 255)
        exact = _rgb(scale.colours(np.array([value]))[0])
        assert np.abs(_rgb(shades[step]) - exact).max() <= 3
    for shade, ink in zip(shades, metric["inks"], strict=True):
        assert _contrast(_rgb(shade), _rgb(ink)) >= 4.5


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def _contrast(a: np.ndarray, b: np.ndarray) -> float:
    def luminance(rgb):
        c = rgb / 255
        return float(
            np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_the_legend_has_the_unit_the_meaning_and_the_reference():
    metric = data(metric="update_norm")["metric"]
    assert metric["unit"] == "Frobenius" and metric["meaning"] == METRICS["update_norm"].meaning
    assert metric["label"] == "‖ΔW‖ of the gate" and metric["reference"] == 0.0 and metric["low"] == 0.0
    assert data(metric="hidden_norm")["metric"]["reference"] is None


def test_it_is_plain_json_and_the_same_for_every_pin():
    made = data(prompt=PromptBox(text="a\r\nb", examples={"one": "x"}))
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["prompt"] == {"text": "a\nb", "chat": False, "bos": "auto", "examples": [["one", "x"]]}
    assert made == data(prompt=PromptBox(text="a\r\nb", examples={"one": "x"}))
    changed = VALUES.copy()
    changed[2, 4] += 1e-3
    digests = {made["digest"], data()["digest"], data(changed)["digest"], data(layer=7)["digest"]}
    assert len(digests) == 4


def test_4096_tokens_of_30_layers_are_at_most_a_megabyte_and_a_half():
    drawn = np.random.default_rng(0)
    pieces = [Token(f"␣naïve{i % 97}", "text", 49000 + i % 97, f"' naïve{i % 97}'") for i in range(4096)]
    values = drawn.normal(size=(30, 4096))
    columns = {metric.label: drawn.normal(size=4096) for metric in METRICS.values()}
    columns |= {"kl": drawn.normal(size=4096), "nll": drawn.normal(size=4096)}
    columns |= {f"next, {who}": [f"␣following{i % 7} 0.12" for i in range(4096)] for who in ("base", "NPT")}
    scale = colour_scale(METRICS["recovered"], values)
    made = token_view_data(
        pieces,
        values,
        scale,
        layers=range(30),
        layer=15,
        columns=columns,
        prompt=PromptBox(text=" naïve" * 4096),
    )
    assert len(json.dumps(made)) <= 1_500_000


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"values \(2, 5\) do not fit 3 layers and 5 tokens"):
        data(VALUES[:2])
    with pytest.raises(ValueError, match="layer 4 is none of the rows, which are 3, 15, 7"):
        data(layer=4)


def test_without_tokens_there_is_a_box_to_write_in():
    scale = colour_scale(METRICS["recovered"], np.empty((1, 0)))
    made = token_view_data(
        (), np.empty((1, 0)), scale, layers=[0], layer=0, prompt=PromptBox(text="  ", chat=True)
    )
    assert made["glyphs"] == [] and made["prompt"]["chat"] and made["count"] == "0 tokens"


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """What the components are given."""
    calls: list[dict] = []
    monkeypatch.setattr(module, "_component", lambda reserved: lambda **given: calls.append(given))
    monkeypatch.setattr(module, "_signal", lambda **given: calls.append(given))
    monkeypatch.setattr(st, "session_state", {})
    return calls


@pytest.mark.parametrize(
    "sent, expected",
    [
        ({"token": 4, "layer": None, "at": 5.0}, [(4, None)]),
        ({"token": 0, "layer": 7, "at": 5.0}, [(0, 7)]),
        ({"token": 1, "layer": 99, "at": 5.0}, [(1, None)]),
        ({"token": 5, "layer": 7, "at": 5.0}, []),
        (None, []),
    ],
)
def test_a_pin_names_a_token_of_the_prompt_and_a_layer_of_the_map(drawn, sent, expected):
    pins = []
    token_view(data(), key="view", on_pin=lambda *pin: pins.append(pin))
    st.session_state["view"] = {"pinned": sent}
    drawn[0]["on_pinned_change"]()
    assert pins == expected


def test_the_signal_says_which_click_it_answers(drawn):
    pin_signal(1, None, key="signal")
    token_view(data(), key="view", on_pin=lambda *pin: None, on_ask=lambda *asked: None)
    st.session_state["view"] = {"pinned": {"token": 4, "layer": None, "at": 17.5}}
    drawn[1]["on_pinned_change"]()
    pin_signal(4, 15, key="signal")
    st.session_state["view"] = {"asked": {"prompt": "x", "chat": False, "bos": "auto", "at": 19.5}}
    drawn[1]["on_asked_change"]()
    pin_signal(4, 15, key="signal", channel="donor")
    assert [call["data"]["at"] for call in drawn if "channel" in call["data"] and "at" in call["data"]] == [
        0,
        17.5,
        19.5,
    ]
    assert drawn[-1]["data"]["channel"] == "donor"


def test_a_question_has_the_prompt_exactly_and_a_bos_that_exists(drawn):
    asked = []
    token_view(data(), key="view", on_pin=lambda *pin: None, on_ask=lambda *given: asked.append(given))
    for bos in ("yes", "nonsense"):
        st.session_state["view"] = {"asked": {"prompt": " a\n", "chat": True, "bos": bos, "at": 1.0}}
        drawn[0]["on_asked_change"]()
    assert asked == [(" a\n", True, "yes"), (" a\n", True, "auto")]


def test_no_text_can_become_markup_in_the_browser():
    scripts = [path.read_text(encoding="utf-8") for path in HERE.glob("*.js")]
    assert len(scripts) == 5
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|setInterval", "".join(scripts)
    )


@pytest.mark.parametrize("n_layers, row_height", [(1, 24), (9, 24), (30, 7), (200, 3)])
def test_rows_of_the_map_share_its_height_between_a_least_and_a_most(n_layers, row_height):
    scale = colour_scale(METRICS["recovered"], np.ones(1))
    made = token_view_data(
        PIECES[:1], np.ones((n_layers, 1)), scale, layers=range(n_layers), layer=0, heights={"map": 240}
    )
    assert made["row_height"] == row_height

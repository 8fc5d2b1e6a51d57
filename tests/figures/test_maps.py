"""The map shows the numbers it is given, one column a position, and every cell says what it is."""

import numpy as np
import pytest

from npt_viz.figures.maps import WINDOW, layer_by_token, window
from npt_viz.figures.theme import colour_scale
from npt_viz.results.inspection import METRICS

TOKENS = ("the", "␣cat", "the", "<b>", "␣sat")
LAYERS = (3, 11, 19)


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(15, dtype=float).reshape(3, 5) / 10 - 0.5


def figure_of(values, **options):
    scale = colour_scale(METRICS["recovered"], values)
    return layer_by_token(values, layers=LAYERS, tokens=TOKENS, scale=scale, **options)


def test_equal_tokens_keep_their_own_columns(values):
    figure = figure_of(values)
    np.testing.assert_array_equal(figure.data[0].z, values)
    assert list(figure.data[0].x) == [0, 1, 2, 3, 4]
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3, 4]


def test_a_token_that_looks_like_markup_is_a_label(values):
    assert figure_of(values).layout.xaxis.ticktext[3] == "&lt;b&gt;"


def test_layers_go_upwards_under_their_names(values):
    axis = figure_of(values).layout.yaxis
    assert axis.range[0] < axis.range[1]
    assert axis.ticktext == ("layer 3", "layer 11", "layer 19")


def test_every_cell_has_a_point_that_names_layer_token_and_value(values):
    points = figure_of(values).data[1]
    found = {(int(layer), int(token)): value for layer, token, value in points.customdata}
    assert found == {(layer, t): values[i, t] for i, layer in enumerate(LAYERS) for t in range(5)}
    assert [(x, y) for x, y in zip(points.x, points.y, strict=True)][7] == (2, 1)


def test_tokens_left_out_have_no_colour_but_keep_their_number(values):
    left_out = np.array([True, False, False, False, False])
    figure = figure_of(values, left_out=left_out)
    assert np.isnan(figure.data[0].z[:, 0]).all()
    assert np.isfinite(figure.data[0].z[:, 1:]).all()
    assert figure.data[1].customdata[0][2] == values[0, 0]
    assert "sink" in figure.data[1].text[0]


def test_the_pin_is_outlined_and_only_where_it_is_drawn(values):
    outlines = [shape for shape in figure_of(values, pin=(11, 3)).layout.shapes if shape.type == "rect"]
    assert [(s.x0, s.x1, s.y0, s.y1) for s in outlines] == [(2.5, 3.5, 0.5, 1.5)]
    assert not figure_of(values, pin=(12, 3)).layout.shapes


def test_a_part_of_a_long_prompt_keeps_its_token_numbers():
    values = np.random.default_rng(0).normal(size=(2, 700))
    figure = layer_by_token(
        values,
        layers=(1, 2),
        tokens=["x"] * 700,
        scale=colour_scale(METRICS["recovered"], values),
        shown=window(700, around=600),
    )
    assert list(figure.data[0].x) == list(range(512, 700))
    np.testing.assert_array_equal(figure.data[0].z, values[:, 512:700])


@pytest.mark.parametrize("around", [0, 255, 256, 1999])
def test_the_window_holds_the_token_and_stays_put_inside_its_block(around):
    shown = window(2000, around)
    assert around in shown
    assert len(shown) <= WINDOW
    assert window(2000, shown.start) == window(2000, shown.stop - 1) == shown

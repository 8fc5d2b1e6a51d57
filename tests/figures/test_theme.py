"""A colour is a number: the reference has none of it, the ends have all, and it can be read in both themes."""

import numpy as np
import plotly.graph_objects as go
import pytest

from npt_viz.figures.theme import ColourScale, colour_scale, ink_on, log_y, number, plain
from npt_viz.results.inspection import METRICS, TOKEN_METRICS

THEMES = ("light", "dark")


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_a_value_at_the_reference_has_no_colour(theme):
    scale = colour_scale(METRICS["recovered"], np.array([-0.5, 0.0, 0.9]), theme)
    middle = scale.colours(np.array([0.0]))[0]
    assert middle == scale.stops[len(scale.stops) // 2]
    assert contrast(middle, {"light": "#ffffff", "dark": "#14161b"}[theme]) < 1.25


def test_a_diverging_scale_is_centred_on_the_reference():
    scale = colour_scale(METRICS["magnitude_ratio"], np.linspace(0.5, 1.2, 101))
    assert (scale.low + scale.high) / 2 == pytest.approx(1.0)
    assert scale.high == pytest.approx(1 + np.quantile(np.abs(np.linspace(0.5, 1.2, 101) - 1), 0.98))


def test_a_side_without_values_is_cut_off():
    below = colour_scale(METRICS["cosine"], np.array([0.2, 0.9, 1.0]))
    assert below.high == 1.0
    assert below.colours(np.array([1.0]))[0] == below.stops[-1]
    both = colour_scale(METRICS["recovered"], np.array([-0.3, 0.7]))
    assert both.stops[: len(below.stops)] == below.stops


def test_one_outlier_does_not_bleach_the_others():
    values = np.append(np.full(199, 1.0), 1000.0)
    scale = colour_scale(METRICS["relative_error"], values)
    assert scale.high == 1.0
    assert scale.colours(np.array([1000.0])) == [scale.stops[-1]]


def test_values_that_are_no_number_have_no_colour_and_do_not_move_the_scale():
    scale = colour_scale(METRICS["update_norm"], np.array([np.nan, 2.0, np.inf]))
    assert (scale.low, scale.high) == (0.0, 2.0)
    assert scale.colours(np.array([np.nan, 0.0, np.inf])) == [None, scale.stops[0], None]


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0], [3.0]])
@pytest.mark.parametrize("name", ["recovered", "update_norm", "hidden_norm", "cosine"])
def test_every_scale_has_two_ends(name, values):
    scale = colour_scale(METRICS[name], np.array(values))
    assert np.isfinite([scale.low, scale.high]).all()
    assert len(scale.colours(np.array([0.0, 1.0]))) == 2


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("values", [np.linspace(0, 1, 9), np.linspace(-1, 1, 9), np.linspace(-1, 0, 9)])
def test_lightness_goes_one_way_from_the_reference(theme, values):
    metric = METRICS["recovered"] if values.min() < 0 else METRICS["update_norm"]
    scale = colour_scale(metric, values, theme)
    lightness = [luminance(stop) for stop in scale.stops]
    middle = int(np.argmax(lightness) if theme == "light" else np.argmin(lightness))
    outward = 1 if theme == "dark" else -1
    assert all(outward * step > 0 for step in np.diff(lightness[middle:]))
    assert all(outward * step < 0 for step in np.diff(lightness[: middle + 1]))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("metric", [METRICS["recovered"], METRICS["hidden_norm"], TOKEN_METRICS["kl"]])
def test_text_can_be_read_on_every_colour(theme, metric):
    scale = colour_scale(metric, np.linspace(-1, 1, 41), theme)
    for colour in scale.colours(np.linspace(scale.low, scale.high, 41)):
        assert contrast(colour, ink_on(colour, theme)) >= 4.5


def test_colours_between_two_stops_are_mixed():
    scale = ColourScale(metric=METRICS["update_norm"], low=0.0, high=2.0, stops=("#000000", "#204060"))
    assert scale.colours(np.array([0.0, 1.0, 2.0])) == ["#000000", "#102030", "#204060"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.04312, "0.0431"),
        (-0.5, "−0.5"),
        (12.44, "12.4"),
        (999.4, "999"),
        (999.7, "1,000"),
        (25310.4, "25,310"),
        (3.14e-7, "3.1e-07"),
        (-1.6e9, "−1.60e+09"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_markup_in_a_label_is_text():
    assert plain("<b>&amp;") == "&lt;b&gt;&amp;amp;"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.21, 0.69], ["0.5"]),
        ([0.012, 3.1], ["0.1", "1"]),
        ([1e-9, 1e6], []),
        ([0.55, 0.6], ["0.55", "0.6"]),
    ],
)
def test_a_logarithmic_axis_has_few_ticks_within_its_values_and_in_full(values, ticks):
    figure = go.Figure(go.Scatter(y=[*values, 0.0, float("nan")]))
    log_y(figure)
    axis = figure.layout.yaxis
    assert axis.type == "log" and 2 <= len(axis.tickvals) <= 9
    assert {*ticks} <= {*axis.ticktext} and len({*axis.ticktext}) == len(axis.ticktext)
    assert min(values) / 1.06 <= min(axis.tickvals) and max(axis.tickvals) <= 1.06 * max(values)

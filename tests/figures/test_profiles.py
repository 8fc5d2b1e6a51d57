"""Bars start at the reference, and what is left out moves nothing."""

import numpy as np
import pytest

from npt_viz.figures.profiles import token_profile
from npt_viz.figures.theme import colour_scale
from npt_viz.results.inspection import METRICS

VALUES = np.array([900.0, 1.3, 0.7, 0.9])
SINK = np.array([True, False, False, False])


def figure_of(metric="magnitude_ratio", **options):
    scale = colour_scale(METRICS[metric], VALUES[~SINK])
    return token_profile(VALUES, tokens=("<bos>", "a", "b", "c"), scale=scale, left_out=SINK, **options)


def test_bars_start_at_the_reference_and_end_at_the_value():
    bars = figure_of().data[0]
    assert bars.base == 1.0
    np.testing.assert_allclose(np.asarray(bars.y[1:]) + bars.base, VALUES[1:])


def test_a_sink_neither_stretches_the_axis_nor_moves_the_median():
    figure = figure_of()
    assert figure.layout.yaxis.range[1] < 2
    assert [a.text for a in figure.layout.annotations] == ["median 0.9"]
    assert figure.data[0].customdata[0][1] == 900.0


def test_a_metric_without_a_reference_starts_at_zero_and_draws_no_reference_line():
    figure = figure_of("hidden_norm")
    assert figure.data[0].base == 0.0
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx([0.9])


def test_the_lines_are_the_reference_and_the_median():
    assert [shape.y0 for shape in figure_of().layout.shapes] == pytest.approx([1.0, 0.9])


def test_token_text_in_a_tooltip_is_text():
    assert "&lt;bos&gt;" in figure_of().data[0].text[0]

"""The attribution figure holds the scores of the tokens that can have one, and nothing for the others."""

import numpy as np

from npt_viz.figures.attribution import score_scale, scores_by_method, shown_scores
from npt_viz.results.attribution import Attribution, Quantity


def result(method: str, scores: list[float]) -> Attribution:
    return Attribution(
        quantity=Quantity(kind="scalar", token=3, layer=1),
        name="s",
        method=method,
        mode="local",
        positions="deployed",
        tokens=("the", "cat", "<b>", "the", "cat"),
        scores=np.array(scores),
        baseline="·",
        value=1.0,
        baseline_value=0.0,
        delta=float("nan"),
        steps=0,
        forwards=1,
        seconds=0.0,
    )


BOTH = [
    result("ablation", [0.0, 2.0, -1.0, 0.5, 0.0]),
    result("gradient_x_activation", [90.0, -3.0, 1.0, 7.0, 0.0]),
]


def test_each_method_has_its_bars_on_one_token_axis():
    figure = scores_by_method(BOTH, pin=3)
    first, second = figure.data
    np.testing.assert_allclose(first.y, [np.nan, 2, -1, 0.5, np.nan])
    np.testing.assert_allclose(second.y, [np.nan, -3, 1, 7, np.nan])
    assert list(first.x) == list(second.x) == [0, 1, 2, 3, 4]
    assert (first.xaxis, second.xaxis) == ("x", "x2") and figure.layout.xaxis.matches == "x2"


def test_a_colour_says_the_sign_and_the_sink_does_not_bleach_the_others():
    scale = score_scale(BOTH[1])
    assert -scale.low == scale.high < 10
    assert np.isnan(shown_scores(BOTH[1])[[0, 4]]).all()


def test_token_text_stays_text():
    figure = scores_by_method(BOTH[:1], pin=3)
    assert "<b>&lt;b&gt;</b>" in figure.data[0].text[2]
    assert "&lt;b&gt;" in figure.layout.xaxis.ticktext


def test_only_the_window_around_the_pin_is_drawn():
    figure = scores_by_method(BOTH[:1], pin=3, shown=range(2, 4))
    np.testing.assert_allclose(figure.data[0].y, [-1, 0.5])

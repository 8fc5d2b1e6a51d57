"""The numbers inside the figures of permanent updates."""

import numpy as np
import pytest

from npt_viz.figures import editing
from npt_viz.results.editing import (
    AlphaSweep,
    EditReport,
    Leakage,
    NextToken,
    PromptScore,
    RealisedEdit,
    Scorecard,
)

ROWS = [
    NextToken("the", 5, 0.1, 0.6, 3, 1),
    NextToken("<b>", 7, 0.5, 0.2, 1, 2),
    NextToken("the", 9, 0.2, 0.05, 2, 4),
]


def test_next_tokens_join_before_and_after_of_each_candidate():
    figure = editing.next_tokens(ROWS, sides=("plain", "edited"))
    joints, before, after = figure.data
    assert list(before.x) == [0.1, 0.5, 0.2] and list(after.x) == [0.6, 0.2, 0.05]
    assert list(before.y) == list(after.y) == [2, 1, 0]  # Equal glyphs keep rows of their own.
    assert list(joints.x) == [0.1, 0.6, None, 0.5, 0.2, None, 0.2, 0.05, None]
    assert (before.name, after.name) == ("plain", "edited")
    assert figure.layout.yaxis.ticktext == ("the 3.→1.", "&lt;b&gt; 1.→2.", "the 2.→4.")


def test_a_rank_that_stays_is_shown_once():
    figure = editing.next_tokens([NextToken("a", 1, 0.5, 0.6, 1, 1)], sides=("", ""))
    assert figure.layout.yaxis.ticktext == ("a 1.",)


@pytest.fixture
def swept():
    return AlphaSweep(
        alphas=np.array([-3.0, 0.0, 1.0, 3.0]),
        new=("a", 1),
        old=("b", 2),
        new_log_probability=np.array([-5.0, -4.0, -2.0, -1.0]),
        margin=np.array([-1.0, -0.5, 0.5, 2.0]),
        unrelated_kl=np.array([0.3, 0.0, 0.02, 0.9]),
        perplexity=np.array([14.0, 10.0, 10.2, 30.0]),
        before_perplexity=10.0,
        n_unrelated=3,
        n_neutral_tokens=50,
    )


def test_a_sweep_shows_every_quantity_its_limit_the_window_and_the_choice(swept):
    figure = editing.sweep(swept, alpha=3.0)
    x = np.arcsinh(np.array([-3.0, 0.0, 1.0, 3.0]) / 0.1)
    for trace, values in zip(
        figure.data,
        (swept.margin, swept.new_log_probability, swept.unrelated_kl, swept.perplexity / 10),
        strict=True,
    ):
        np.testing.assert_allclose(trace.x, x)
        np.testing.assert_allclose(trace.y, values)
        np.testing.assert_allclose(trace.customdata, swept.alphas)  # What a click picks.
    window, *lines = [figure.layout.shapes[i] for i in _order(figure)]
    assert (window.x0, window.x1) == pytest.approx((x[2] - 0.05, x[2] + 0.05))
    levels = {line.y0 for line in lines if line.y0 == line.y1}
    assert levels == {0.0, 0.1, 1.05}
    assert any(line.x0 == pytest.approx(x[3]) for line in lines if line.x0 == line.x1)


def _order(figure):
    """The shaded window first."""
    return sorted(range(len(figure.layout.shapes)), key=lambda i: figure.layout.shapes[i].type != "rect")


def test_without_a_usable_strength_nothing_is_shaded(swept):
    swept.margin[:] = -1
    assert not [shape for shape in editing.sweep(swept).layout.shapes if shape.type == "rect"]


def test_scores_are_shares_with_their_intervals():
    def row(part, hit, preferred):
        return PromptScore(part, "p", "e", "q", hit, preferred, 0.0, 0.0)

    card = Scorecard(
        prompts=(
            row("reliability", True, True),
            row("generalisation", False, True),
            row("generalisation", True, True),
            row("locality", True, True),
        ),
        before_perplexity=10.0,
        after_perplexity=11.0,
        neutral_kl=0.1,
        n_neutral_tokens=20,
    )
    hits, preferred = editing.scores(card).data
    assert list(hits.x) == ["reliability", "generalisation", "locality"]
    assert list(hits.y) == [1.0, 0.5, 1.0] and list(hits.text) == ["1/1", "1/2", "1/1"]
    assert list(preferred.x) == ["reliability", "generalisation"] and list(preferred.y) == [1.0, 1.0]
    low, high = card.score("generalisation").interval
    assert hits.error_y.array[1] == pytest.approx(high - 0.5)
    assert hits.error_y.arrayminus[1] == pytest.approx(0.5 - low)


def test_leakage_counts_every_reference_token_once():
    rng = np.random.default_rng(0)
    values = {"npt": rng.normal(0.5, 1.0, 300), "whitened": rng.normal(0, 0.1, 300)}
    results = [
        Leakage(rule=rule, parameter="w", leakage=v, effect=np.abs(v), update_norm=1.0, hit_most=())
        for rule, v in values.items()
    ]
    figure = editing.leakage(results)
    for trace, (rule, v) in zip(figure.data, values.items(), strict=True):
        assert sum(trace.y) == pytest.approx(1.0)
        assert trace.name.startswith(rule)
        # The mean of the histogram is the mean of the values, up to the width of a bin and the clipped tails.
        assert np.dot(trace.x, trace.y) == pytest.approx(v.mean(), abs=0.05)
    assert {shape.x0 for shape in figure.layout.shapes} == {0, 1}


def test_singular_values_are_drawn_by_projection():
    row = RealisedEdit("model.layers.3.mlp.up_proj.weight", "float32", 1.0, 0.1, 1.0, 1.0, 1.0, True)
    report = EditReport(edits=(row,), singular_values={row.parameter: np.array([3.0, 1.0])})
    (trace,) = editing.singular_values(report).data
    assert trace.name == "3 up" and list(trace.y) == [3.0, 1.0] and list(trace.x) == [1, 2]


def test_layer_shares_stand_beside_each_other():
    at_token, at_end = editing.layer_shares([3, 15], [0.5, 0.1], [0.2, 0.3]).data
    assert list(at_token.x) == ["3", "15"] and list(at_token.y) == [0.5, 0.1] and list(at_end.y) == [0.2, 0.3]

"""The pictures of directions show the numbers of their results, and what those are held against."""

import numpy as np
import pytest

from npt_viz.figures.directions import ALIGNED, agreement, alignment_map, apart, direction_map, spreads
from npt_viz.figures.parts import component_cosines, component_shares, moved_units
from npt_viz.figures.theme import INK, colour_scale
from npt_viz.results.directions import (
    Alignment,
    Baseline,
    ComponentShares,
    DirectionMap,
    ExactAgreement,
    MovedUnits,
    Spread,
    SpreadReference,
)
from npt_viz.results.inspection import METRICS

TOKENS = ("the", "<b>cat", "the", "sat", "on")
KEPT = np.array([1, 2, 4])
VALUES = np.array([9.0, 0.1, 0.2, 0.3, np.nan])


@pytest.fixture
def drawn_map() -> DirectionMap:
    return DirectionMap(
        layer=3,
        target="gate",
        quantity="v_b",
        component=0,
        tokens=KEPT,
        coordinates=np.array([[1.0, 2.0], [-3.0, 0.5], [2.0, -2.5]]),
        mean_norm=4.0,
        explained=np.array([0.7, 0.3]),
        random_sds=np.array([1.5, 1.25]),
        norms=np.array([4.5, 5.5, 6.5]),
        spread=Spread(2.5, 1.75),
        ceiling=3,
        references=(
            SpreadReference(
                name="random", effective_rank=Baseline(2.9, 0.1, 8), participation_ratio=Baseline(2.8, 0.2, 8)
            ),
        ),
    )


def test_the_map_has_the_coordinates_the_pin_and_the_token_under_every_point(drawn_map):
    scale = colour_scale(METRICS["recovered"], VALUES)
    figure = direction_map(drawn_map, tokens=TOKENS, values=VALUES, scale=scale, pin=2)
    ellipse, points = figure.data
    assert np.column_stack([points.x, points.y]).tolist() == drawn_map.coordinates.tolist()
    assert [row[0] for row in points.customdata] == [1, 2, 4]
    assert list(points.marker.color[:2]) == scale.colours(VALUES[[1, 2]])
    assert points.marker.line.color[1] == INK["light"] != points.marker.line.color[0]
    assert "&lt;b&gt;cat" in points.text[0] and "&lt;b&gt;cat" in points.hovertext[0]
    assert (max(ellipse.x), max(ellipse.y)) == pytest.approx((3.0, 2.5), rel=0.01)
    assert "70% of the variance" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.scaleanchor == "x"


def test_no_label_of_a_map_covers_another_and_the_pinned_one_is_there():
    draw = np.random.default_rng(3)
    heap, far = draw.normal(scale=0.02, size=(11, 2)), np.array([[-1.0, 1.0], [1.0, -1.0]])
    points, labels = np.vstack([heap, far]), ["capital"] * 11 + ["far", "away"]
    kept = apart(points, labels, first=np.arange(13) == 5)
    shown = [i for i, label in enumerate(kept) if label]
    assert {5, 11, 12} <= set(shown) and len(shown) < 13 and all(kept[i] == labels[i] for i in shown)
    for i in shown:
        for j in shown[: shown.index(i)]:
            # 300 pixels for two units; 13 a line, 6.4 a character.
            across, down = np.abs(points[i] - points[j]) * 150
            assert across >= 3.2 * (len(labels[i]) + len(labels[j])) or down >= 13
    assert apart(np.array([[0.0, 0.0], [9.0, 9.0]]), ["a", "b"], first=np.zeros(2, bool)) == ["a", "b"]


def test_a_map_of_many_tokens_leaves_their_text_to_the_tooltip(drawn_map):
    n = 100
    many = DirectionMap(
        **{
            **drawn_map.__dict__,
            "tokens": np.arange(n),
            "coordinates": np.random.default_rng(0).normal(size=(n, 2)),
            "norms": np.ones(n),
        }
    )
    scale = colour_scale(METRICS["recovered"], np.ones(n))
    points = direction_map(many, tokens=["x"] * n, values=np.ones(n), scale=scale).data[1]
    assert points.mode == "markers" and len(points.hovertext) == n


def test_a_token_far_out_does_not_press_the_others_into_a_point(drawn_map):
    n = 60
    coordinates = np.random.default_rng(0).normal(size=(n, 2))
    scale = colour_scale(METRICS["recovered"], np.ones(n))

    def drawn(farthest: float):
        coordinates[7, 0] = farthest
        fields = {"tokens": np.arange(n), "coordinates": coordinates.copy(), "norms": np.ones(n)}
        result = DirectionMap(**{**drawn_map.__dict__, **fields})
        figure = direction_map(result, tokens=["x"] * n, values=np.ones(n), scale=scale)
        return result, figure.layout.xaxis.range

    result, axis = drawn(900.0)
    assert result.far.tolist() == [i == 7 for i in range(n)]
    assert axis[1] == result.radius < 30
    result, axis = drawn(1.0)
    assert not result.far.any() and axis is None


def test_spreads_put_the_measured_set_above_its_references(drawn_map):
    rank, ratio = spreads(drawn_map).data
    assert (list(rank.x), list(ratio.x)) == ([2.5, 2.9], [1.75, 2.8])
    assert list(rank.error_x.array) == [0, 0.1]
    assert rank.y[0] > rank.y[1]
    assert "8 draws" in rank.hovertext[1]


@pytest.fixture
def aligned() -> Alignment:
    cosines = np.array([[1.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 1.0]])
    return Alignment(
        tokens=KEPT, cosines=cosines, mean=0.125, attention=Baseline(0.3, 0.1, 0), random=Baseline(0, 0.01, 0)
    )


def test_the_alignment_map_has_every_cosine_and_a_click_gives_the_columns_token(aligned):
    heat, cells = alignment_map(aligned, tokens=TOKENS, pin=2).data
    assert np.array_equal(heat.z, aligned.cosines)
    assert (heat.zmin, heat.zmax) == (-1, 1)
    assert np.array_equal(cells.customdata[5], [4, 2, 0.125])
    assert len(cells.customdata) == 9


def test_a_large_alignment_map_draws_the_block_that_holds_the_pin():
    n = 2 * ALIGNED + 7
    tokens = np.arange(n) * 3
    cosines = np.random.default_rng(0).normal(size=(n, n))
    result = Alignment(
        tokens=tokens, cosines=cosines, mean=0, attention=Baseline(0, 0, 0), random=Baseline(0, 0, 0)
    )
    heat = alignment_map(result, tokens=["x"] * (3 * n), pin=3 * (ALIGNED + 5)).data[0]
    assert np.array_equal(heat.z, cosines[ALIGNED : 2 * ALIGNED, ALIGNED : 2 * ALIGNED])


def test_agreement_draws_the_tokens_that_were_compared_and_both_baselines():
    result = ExactAgreement(
        formula="a",
        tokens=KEPT,
        cosines=np.array([0.5, 0.25, -0.5]),
        ratios=np.ones(3),
        shuffled=Baseline(0.75, 0.01, 16),
        random_sd=0.125,
    )
    left_out = np.array([True, False, False, False, False])
    figure = agreement(result, tokens=TOKENS, left_out=left_out, pin=1, shown=range(5))
    heights = np.array(figure.data[0].y, float)
    np.testing.assert_allclose(heights[KEPT], [0.5, 0.25, -0.5])
    assert [row[0] for row in figure.data[0].customdata] == [0, 1, 2, 3, 4]
    lines = [shape for shape in figure.layout.shapes if shape.type == "line" and shape.y0 == shape.y1]
    assert 0.75 in [line.y0 for line in lines]
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.y0, band.y1) == (-0.25, 0.25)
    assert figure.layout.yaxis.range[1] > 0.75


def test_units_have_one_point_a_token_and_a_bar_of_their_own_size():
    changes = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -0.5]])
    result = MovedUnits(
        target="gate",
        tokens=KEPT,
        units=np.array([17, 5]),
        changes=changes,
        own_sizes=np.array([0.75, 1.5]),
        energy_shares=np.array([0.6, 0.1]),
        n_units=31,
        effective_units=2.5,
    )
    figure = moved_units(result, tokens=TOKENS, pin=4)
    bars, points = figure.data
    assert list(points.x) == changes.ravel().tolist()
    assert list(points.y) == [1, 1, 1, 0, 0, 0]
    assert [tuple(row) for row in points.customdata[:2]] == [(1, 17), (2, 17)]
    assert points.marker.color[2] == INK["light"] != points.marker.color[1]
    assert (list(bars.base), list(bars.x)) == ([-0.75, -1.5], [1.5, 3.0])
    assert figure.layout.yaxis.ticktext[0] == "unit 17 · 60.0%"


def test_components_have_their_shares_against_equal_ones_and_their_cosines():
    result = ComponentShares(
        shares=np.array([0.75, 0.5, -0.25]),
        cosines=np.eye(3),
        scalar_means=np.zeros(3),
        scalar_sds=np.ones(3),
        random_sd=0.1,
    )
    figure = component_shares(result)
    assert list(figure.data[0].y) == [0.75, 0.5, -0.25]
    assert [shape.y0 for shape in figure.layout.shapes] == [0, pytest.approx(1 / 3)]
    assert np.array_equal(component_cosines(result).data[0].z, np.eye(3))

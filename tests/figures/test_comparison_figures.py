"""Differences as drawn: numbers, marks of tokens that one side has alone, equal axes, names and the pin."""

import json
from dataclasses import replace

import numpy as np
import pytest
from stated import drawn, sinks
from stated_comparisons import run_on

from npt_viz.figures import comparison as figures
from npt_viz.results.comparison import compare

N = 23
IDS = list(range(101, 101 + N))
OWN = drawn(1, N, 0.4)


@pytest.fixture
def found():
    far = OWN + 0.1 + drawn(5, N, 0, 0.01)
    far[[3, 11]] += (0.9, -1.7)
    b_ids = [*IDS[:5], 97, *IDS[6:]]
    return compare(run_on(IDS, OWN, is_sink=sinks(N, 0), first=IDS), run_on(b_ids, far, first=b_ids))


def test_the_map_has_the_differences_and_marks_what_one_side_has_alone(found):
    figure = figures.differences(found, "recovered", pin=3)
    heat = np.array(figure.data[0].z, float)
    expected = found.columns("recovered").difference.copy()
    expected[0] = np.nan
    np.testing.assert_array_equal(heat, [expected])
    labels = list(figure.layout.xaxis.ticktext)
    assert len(labels) == N + 1 and labels[5:7] == ["−␣w106", "+␣w97"] and labels[4] == "␣w105"
    assert figures.differences(compare(found.a, found.b, layer=7), "kl").layout.yaxis.ticktext == (
        "NPT model",
    )


def points_of(figure, size=None) -> list[tuple]:
    """(column, x, y, A, B, B − A) of every point, or of those of one size, by column."""
    traces = [
        each
        for each in figure.data
        if each.mode == "markers" and size in (None, each.marker.size) and each.text
    ]
    return sorted(
        (int(data[0]), x, y, *data[1:])
        for each in traces
        for x, y, data in zip(each.x, each.y, each.customdata, strict=True)
    )


def test_the_scatter_has_a_point_a_token_that_counts_on_equal_axes(found):
    figure = figures.b_against_a(found, "recovered", pin=3)
    columns, counts = found.columns("recovered"), np.flatnonzero(found.counts())
    expected = [
        (i, columns.a[i], columns.b[i], columns.a[i], columns.b[i], columns.difference[i]) for i in counts
    ]
    np.testing.assert_allclose(points_of(figure), expected, rtol=5e-3)
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert {each.text for each in figure.layout.annotations} == {"␣w104", "␣w112"}
    far = next(i for i, pair in enumerate(found.pairs) if pair.a == 11)
    assert [row[0] for row in points_of(figure, size=8)] == [3, far]
    ring = figure.data[-1]
    assert (ring.x[0], ring.y[0]) == (columns.a[3], columns.b[3]) and ring.marker.symbol == "circle-open"


def test_few_far_points_of_many_do_not_squash_the_rest_and_a_pin_sends_none_of_them_anew():
    n = 401
    ids, own = list(range(n)), drawn(2, n, 0.5, 0.1)
    other = own + drawn(3, n, 0, 0.02)
    other[7] = -90.0
    found = compare(run_on(ids, own), run_on(ids, other))
    figure = figures.b_against_a(found, "recovered", pin=9)
    low, high = figure.layout.yaxis.range
    assert low > -1 and high < 2
    far = points_of(figure)[7]
    assert (far[2], far[4]) == (low, -90.0)
    assert figure.to_json() == figures.b_against_a(found, "recovered", pin=11).to_json()
    assert len(figure.to_json()) < 200 * n


def test_names_and_tips_show_markup_as_text(found):
    pieces = tuple(piece._replace(glyph="<b>x</b>") for piece in found.a.pieces)
    again = compare(replace(found.a, pieces=pieces), found.b)
    for figure in (figures.b_against_a(again, "recovered"), figures.differences(again, "recovered")):
        assert "<b>x</b>" not in json.loads(figure.to_json()).__repr__()


def test_a_and_b_have_one_scale_and_few_or_no_tokens_are_drawn(found):
    scale = figures.common_scale(found, "recovered")
    assert scale.high >= max(each[found.counts()].max() for each in found.columns("recovered")) * 0.5
    nothing = compare(run_on([1, 2], [0.1, 0.2]), run_on([3], [0.3]))
    assert points_of(figures.b_against_a(nothing, "recovered")) == []
    assert np.isnan(np.array(figures.differences(nothing, "recovered").data[0].z, float)).all()

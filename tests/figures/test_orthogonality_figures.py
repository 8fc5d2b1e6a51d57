"""The pictures of orthogonality show shares, spectrum and angles beside those of random vectors."""

import numpy as np
import pytest

from npt_viz.figures.orthogonality import (
    against_random,
    principal_angles,
    share_curve,
    share_map,
    share_profile,
    spectrum,
)
from npt_viz.results.directions import Baseline
from npt_viz.results.estimate import Estimate
from npt_viz.results.orthogonality import LayerOrthogonality

TOKENS = ("the", "cat", "the", "sat")


def result(layer: int = 3) -> LayerOrthogonality:
    return LayerOrthogonality(
        layer=layer,
        target="gate",
        of="z",
        centred=True,
        top=2,
        dim=13,
        n_reference=29,
        explained=np.array([0.5, 0.25, 0.125]),
        isotropic_edge=0.2,
        shares=np.array([0.9, 0.3, 0.1, 0.2]) * layer / 3,
        curve=np.array([0.1, 0.2, 0.3]),
        left_out=np.array([True, False, False, False]),
        angles=np.array([30.0, 70.0]),
        random_angles=(Baseline(60.0, 5.0, 64), Baseline(80.0, 3.0, 64)),
        published=0.5,
        published_uncentred=0.75,
        mean_shares=np.full(4, 0.04),
        published_random=0.25,
    )


def test_the_share_is_the_mean_of_the_tokens_that_count():
    assert result().share == pytest.approx(0.2)
    assert result().times_random == pytest.approx(0.2 / (2 / 13))


def test_mean_and_top_are_two_bars_over_what_a_random_vector_has():
    along, top = Estimate(0.4, 0.3, 0.6, 3), Estimate(0.2, -np.inf, np.inf, 3)
    random, bars = against_random(result(), along=along, top=top).data
    assert bars.x == (0.4, 0.2) and bars.y == random.y == (1, 0)
    # Too few tokens have no interval.
    np.testing.assert_allclose(bars.error_x.array, [0.2, 0])
    np.testing.assert_allclose(bars.error_x.arrayminus, [0.1, 0])
    for q, start, length in zip((1, 2), random.base, random.x, strict=True):
        sd = np.sqrt(2 * q * (13 - q) / (13**2 * 15))
        np.testing.assert_allclose([start, start + length], [max(q / 13 - 2 * sd, 0), q / 13 + 2 * sd])


def test_the_curve_is_drawn_against_q_over_d():
    band, line, curve = share_curve(result()).data
    assert list(curve.y) == [0.1, 0.2, 0.3]
    np.testing.assert_allclose(line.y, [1 / 13, 2 / 13, 3 / 13])
    assert band.y[1] == pytest.approx(2 / 13 + 2 * result().random.sd)
    assert share_curve(result()).layout.shapes[0].x0 == 2


def test_the_spectrum_has_the_edge_of_vectors_without_structure():
    figure = spectrum(result())
    assert list(figure.data[0].y) == [0.5, 0.25, 0.125]
    colours = figure.data[0].marker.color
    assert colours[0] == colours[1] != colours[2]
    assert figure.layout.shapes[0].y0 == 0.2


def test_the_profile_has_every_token_and_the_band_of_random_vectors():
    figure = share_profile(result(), tokens=TOKENS, pin=2, shown=range(4))
    bars = figure.data[0]
    np.testing.assert_allclose([row[1] for row in bars.customdata], result().shares)
    assert bars.base == 0, "a share is measured from nothing, not from what a random vector has"
    np.testing.assert_allclose(bars.y[1:], result().shares[1:])
    assert figure.layout.yaxis.range[0] == 0 and any(shape.y0 == 2 / 13 for shape in figure.layout.shapes)
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert band.y1 == pytest.approx(2 / 13 + 2 * result().random.sd)


def test_the_map_stacks_the_layers_and_leaves_sinks_out():
    figure = share_map([result(3), result(6)], tokens=TOKENS, pin=(6, 1), shown=range(4))
    values = np.array(figure.data[0].z, float)
    np.testing.assert_allclose(values[:, 1:], [[0.3, 0.1, 0.2], [0.6, 0.2, 0.4]])
    assert np.isnan(values[:, 0]).all()
    assert list(figure.layout.yaxis.ticktext) == ["layer 3", "layer 6"]


def test_angles_stand_beside_those_of_random_directions():
    random, measured = principal_angles(result()).data
    assert (list(measured.y), list(random.y)) == ([30.0, 70.0], [60.0, 80.0])
    assert list(random.error_y.array) == [10.0, 6.0]

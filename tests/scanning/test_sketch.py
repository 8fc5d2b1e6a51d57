"""The quantile sketch against sorted values."""

import numpy as np
import pytest

from npt_viz.results.scan import RELATIVE_ERROR
from npt_viz.scanning.sketch import EMPTY, sketch_of

LEVELS = np.linspace(0, 1, 41)
STREAMS = {
    "wide": lambda random: random.normal(0, 1, 1009) * 10.0 ** random.integers(-9, 9, 1009),
    "with zeros": lambda random: np.where(random.random(503) < 0.3, 0.0, random.normal(0, 1, 503)),
    "one value": lambda random: np.full(7, -3.25),
    "powers of the base": lambda random: (
        ((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)) ** np.arange(-50, 51.0)
    ),
    "float32": lambda random: random.gamma(2, 0.1, 997).astype(np.float32),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_quantile_is_a_value_of_its_rank_within_the_error(stream):
    values = STREAMS[stream](np.random.default_rng(1)).astype(float)
    exact = np.quantile(values, LEVELS, method="lower")
    np.testing.assert_allclose(
        sketch_of(values).quantiles(LEVELS), exact, rtol=RELATIVE_ERROR * (1 + 1e-9), atol=1e-12
    )


def test_merging_is_exact_in_any_order():
    values = STREAMS["wide"](np.random.default_rng(2))
    whole = sketch_of(values)
    pieces = [sketch_of(each) for each in np.array_split(values, 7)]
    for order in (pieces, pieces[::-1]):
        merged = EMPTY
        for each in order:
            merged = merged.merged(each)
        np.testing.assert_array_equal(merged.codes, whole.codes)
        np.testing.assert_array_equal(merged.counts, whole.counts)
    assert whole.n == len(values) and np.isnan(EMPTY.quantiles(LEVELS)).all()

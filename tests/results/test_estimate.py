"""Intervals of medians, against a literal binomial and against draws with a known median."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npt_viz.results.estimate import compared, median_of, sd, spread_of, wilson


def literal_interval(values, confidence):
    """The narrowest pair of order statistics, symmetric, that covers the median with this probability."""
    ordered, n = sorted(values), len(values)
    best = (-math.inf, math.inf)
    for k in range(n // 2):
        outside = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        if outside <= 1 - confidence:
            best = ordered[k], ordered[n - 1 - k]
    return best


@pytest.mark.parametrize("n", [1, 5, 6, 11, 37, 211])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_the_interval_is_that_of_the_binomial(n, confidence):
    values = np.random.default_rng(n).normal(size=n)
    found = median_of(values, confidence)
    assert found[1:3] == pytest.approx(literal_interval(values, confidence))
    assert found.value == np.median(values) and found.n == n


def test_it_covers_the_true_median_as_often_as_it_says():
    draws = np.random.default_rng(7)
    inside = [
        found.low <= math.log(2) <= found.high
        for found in (median_of(draws.exponential(size=53)) for _ in range(2000))
    ]
    assert 0.945 <= np.mean(inside) <= 0.98


def test_thousands_of_values_do_not_underflow():
    found = median_of(np.arange(5001.0))
    assert 2500 - 75 < found.low < 2500 < found.high < 2500 + 75


def test_values_that_are_not_finite_do_not_count():
    assert median_of([np.nan, 1, 2, 3, np.inf]).n == 3
    assert math.isnan(median_of([np.nan]).value)


def test_a_comparison_says_more_no_more_or_that_it_cannot_tell():
    values = np.random.default_rng(3).normal(size=101)
    assert compared(values, values + 0.2, margin=0.1) == "more"
    assert compared(values, values + 0.05, margin=0.1) == "no more"
    assert compared(values[:9], values[:9] + 0.2, margin=0.1) == "cannot tell"
    noisy = values + 3 * np.random.default_rng(5).normal(size=101)
    assert compared(values, noisy, margin=0.1) == "cannot tell"


def test_a_standard_deviation_divides_by_n_minus_1_and_one_value_has_none():
    assert sd([1.0, 2.0, 4.0]) == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2))
    assert math.isnan(sd([3.0])) and math.isnan(sd([]))


def test_nobody_divides_by_n():
    """numpy does unless told otherwise; torch does not."""
    sources = (Path(__file__).parents[2] / "npt_viz").rglob("*.py")
    assert not [str(path) for path in sources if "np.std(" in path.read_text(encoding="utf-8")]


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilsons_interval_holds_the_share_and_stays_within_zero_and_one(hits, n):
    share = min(hits, n) / n
    low, high = wilson(min(hits, n), n)
    assert 0 <= low <= share <= high <= 1
    # The ends solve (p - share)^2 = z^2 p (1 - p) / n, which defines the interval.
    for p in (low, high):
        if 0 < p < 1:
            assert (p - share) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / n, abs=1e-9)


def test_no_trial_leaves_the_share_unknown():
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_spread_is_three_standard_deviations_of_normal_values_and_few_far_ones_do_not_stretch_it():
    values = np.random.default_rng(11).normal(5, 0.2, 4001)
    found = spread_of(values)
    assert found.size == pytest.approx(3 * 0.2, rel=0.05) and found.middle == np.median(values)
    values[:7] = 1e6
    again = spread_of([*values, math.nan])
    assert again.size == pytest.approx(found.size, rel=0.01) and again.n == 4001
    assert again.stand_out([1e6, 5.0, math.nan, again.middle + 0.99 * again.size]).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_a_spread_is_unknown_where_the_median_has_no_interval():
    for n in range(12):
        values = np.arange(n, dtype=float)
        assert np.isfinite(spread_of(values).size) == np.isfinite(median_of(values).low) == (n > 5)
        assert not spread_of(values[:5]).stand_out([1e9]).any()
    assert spread_of([1.0] * 9).size == 0 and spread_of([1.0] * 9, rounding=0.25).size == 0.25

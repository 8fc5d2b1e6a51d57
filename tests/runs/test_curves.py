"""Lines for drawing: smoothing against the definition, thinning that keeps the spikes, shares that add up."""

import numpy as np
import pytest

from npt_viz.results.runs import Run
from npt_viz.results.training import Curves
from npt_viz.runs import line, shares, summary
from npt_viz.runs.curves import POINTS, extremes, moving_average


def run_of(columns, steps=None, **more):
    n = len(next(iter(columns.values())))
    steps = np.arange(1, n + 1) if steps is None else np.asarray(steps)
    curves = Curves(layer=5, steps=steps, columns={k: np.asarray(v, float) for k, v in columns.items()})
    return Run(name="a", origin="here", format="npt_viz", layers={5: curves}, **more)


def test_the_moving_average_is_the_weighted_mean_of_all_before():
    values, beta = np.array([3.0, -1.0, 4.0, 1.0]), 0.7
    expected = [
        sum(beta ** (t - i) * values[i] for i in range(t + 1)) / sum(beta ** (t - i) for i in range(t + 1))
        for t in range(4)
    ]
    np.testing.assert_allclose(moving_average(values, beta), expected)


def test_gaps_are_left_out_of_line_and_average():
    found = line(run_of({"total": [1, np.nan, 3, np.inf, 5]}), 5, "total", smoothing=0.5)
    assert found.x.tolist() == [1, 3, 5] and found.y.tolist() == [1, 3, 5] and found.n_values == 3
    np.testing.assert_allclose(found.smooth, moving_average(np.array([1.0, 3, 5]), 0.5))


def test_a_line_along_seconds_needs_seconds():
    run = run_of({"total": [4.0, 2.0], "seconds": [0.5, 1.5]})
    assert line(run, 5, "total", x="seconds").x.tolist() == [0.5, 1.5]
    assert line(run, 5, "total", x="tokens") is None and line(run, 5, "heldout/total") is None


def test_a_long_line_is_thinned_and_keeps_its_spikes():
    values = np.sin(np.arange(100_003) / 1000)
    values[[777, 54_321]] = 9.0, -9.0
    found = line(run_of({"total": values}), 5, "total")
    assert len(found.y) <= POINTS + 2 and found.n_values == 100_003
    assert 9.0 in found.y and -9.0 in found.y
    assert found.x[0] == 1 and found.x[-1] == 100_003 and (np.diff(found.x) > 0).all()


def test_a_short_line_is_whole():
    assert extremes(np.zeros(7), 7).tolist() == list(range(7))


def test_thinned_shares_still_add_up_to_one():
    random = np.random.default_rng(0).uniform(size=(3, 20_011))
    random /= random.sum(0)
    names = ("direct", "kl", "fidelity")
    found = shares(run_of({f"share/{name}": row for name, row in zip(names, random, strict=True)}), 5)
    assert len(found.steps) < 1000
    np.testing.assert_allclose(sum(found.shares.values()), 1.0)
    assert found.shares["kl"].mean() == pytest.approx(random[1].mean(), rel=1e-3)
    assert shares(run_of({"share/direct": [1.0, 1.0]}), 5) is None


@pytest.mark.parametrize(
    ("column", "best", "step"),
    [("total", 1.0, 20), ("heldout/recovered", 4.0, 30), ("loss/kl", 1.0, 20), ("heldout/direct", 1.0, 20)],
)
def test_the_best_value_is_the_lowest_loss_or_the_largest_share(column, best, step):
    found = summary(run_of({column: [3.0, 1.0, 4.0, 2.0]}, steps=[10, 20, 30, 40]), 5, column)
    assert (found.first, found.last, found.last_step, found.best, found.best_step) == (
        3.0,
        2.0,
        40,
        best,
        step,
    )


def test_a_norm_has_no_best():
    found = summary(run_of({"gate/v_a_norm": [3.0, 1.0]}), 5, "gate/v_a_norm")
    assert np.isnan(found.best) and found.best_step is None

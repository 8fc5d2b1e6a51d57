"""Differences between arms, by hand: which are larger than the spread over seeds, and which nobody can tell."""

import math

import numpy as np
import pytest

from npt_viz.results.experiments import ArmRun, ExperimentResult, t_half_width, t_quantile
from npt_viz.results.sentences.experiments import experiment

TABLE = {(0.975, 1): 12.7062, (0.975, 2): 4.30265, (0.975, 4): 2.77645, (0.995, 2): 9.92484, (0.95, 9): 1.83311, (0.9995, 3): 12.9240, (0.975, 1000): 1.96234}  # fmt: skip
"""(p, degrees of freedom) -> Student's t, from printed tables."""


@pytest.mark.parametrize("where", TABLE)
def test_quantiles_of_t_are_those_of_printed_tables(where):
    assert t_quantile(*where) == pytest.approx(TABLE[where], rel=2e-5)


def test_an_interval_holds_the_true_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.7, 2.0, (20_000, 3))
    half_widths = np.array([t_half_width(row, 0.2) for row in draws])
    inside = abs(draws.mean(1) - 0.7) <= half_widths
    # Four standard errors of a share of 0.8 in 20,000.
    assert inside.mean() == pytest.approx(0.8, abs=0.0113)


def result(numbers, *, reference="base", measure="recovered", seeds=None):
    """numbers: arm -> one number a seed; None for a run that did not finish."""
    seeds = seeds or tuple(range(max(map(len, numbers.values()))))
    runs = [
        ArmRun(
            arm=arm,
            seed=seed,
            state="stopped" if value is None else "finished",
            done=3,
            curves={},
            final={} if value is None else {measure: value},
        )
        for arm, values in numbers.items()
        for seed, value in zip(seeds, values, strict=False)
    ]
    return ExperimentResult(
        name="t",
        arms={arm: arm for arm in numbers},
        seeds=seeds,
        reference=reference,
        steps=3,
        runs=tuple(runs),
        base={},
    )


def comparison(found, arm, measure="recovered"):
    return next(each for each in found.comparisons(measure) if each.arm == arm)


def test_differences_are_taken_seed_by_seed():
    # The arms share what a seed does: it cancels, though the spread over seeds is large.
    found = result({"base": [0.1, 0.5, 0.9], "arm": [0.2, 0.61, 0.99]})
    arm = comparison(found, "arm")
    differences = np.array([0.1, 0.11, 0.09])
    assert arm.difference == pytest.approx(differences.mean())
    assert arm.half_width == pytest.approx(4.30265 * differences.std(ddof=1) / math.sqrt(3), rel=1e-4)
    assert arm.spread == pytest.approx(np.std([0.2, 0.61, 0.99], ddof=1)) and arm.verdict == "better"
    assert comparison(found, "base").verdict == "reference"


def test_more_arms_need_a_larger_difference():
    two = comparison(result({"base": [0.1, 0.2, 0.3], "arm": [0.2, 0.28, 0.42]}), "arm")
    many = {f"arm {i}": [0.2, 0.28, 0.42] for i in range(7)}
    eight = comparison(result({"base": [0.1, 0.2, 0.3], **many}), "arm 0")
    assert two.difference == eight.difference and eight.half_width > 2 * two.half_width
    assert two.verdict == "better" and eight.verdict == "unclear"


def test_verdicts():
    found = result(
        {
            "base": [0.5, 0.5, 0.5],
            "same": [0.5, 0.5, 0.5],
            "worse": [0.10, 0.11, 0.12],
            "unclear": [0.3, 0.9, 0.5],
            "one": [0.9, None, None],
            "none": [None, None, None],
        }
    )
    said = {each.arm: each.verdict for each in found.comparisons("recovered")}
    assert said == {
        "base": "reference", "same": "the same", "worse": "worse", "unclear": "unclear", "one": "one seed",
        "none": "no number",
    }  # fmt: skip


def test_lower_is_better_for_a_divergence():
    found = result({"base": [0.5, 0.52], "arm": [0.1, 0.12]}, measure="median_kl")
    assert comparison(found, "arm", "median_kl").verdict == "better"


def answer(*asked) -> str:
    return str(experiment(*asked))


def test_the_answer_names_what_differs_and_does_not_claim_more():
    sure = answer(
        result(
            {
                "base": [0.40, 0.41, 0.42],
                "good": [0.60, 0.61, 0.62],
                "bad": [0.1, 0.11, 0.12],
                "far": [0.1, 0.9, 0.5],
            }
        )
    )
    assert "better: 'good' (+0.2)" in sure and "worse: 'bad' (-0.3)" in sure and "1 cannot be told" in sure
    assert "no arm can be told from it by its seeds" in answer(
        result({"base": [0.1, 0.9, 0.5], "a": [0.2, 0.1, 0.9]})
    )
    assert "With one seed nobody can tell" in answer(result({"base": [0.4], "a": [0.9]}))
    # An arm without numbers is not one that does not differ.
    alone = answer(result({"base": [0.1, 0.2], "a": [None, None], "b": [0.9, None]}))
    assert "no arm differs" not in alone and "no other arm has enough finished runs" in alone
    part = answer(result({"base": [0.1, 0.2], "a": [0.3, 0.1], "b": [None, None]}))
    assert "1 with too few finished runs to compare" in part
    assert "the best number is 'a' with 0.9" in answer(result({"base": [0.4], "a": [0.9], "b": [0.5]}))
    assert "no other arm has a better number; next is 'b' with 0.3" in answer(
        result({"base": [0.4], "a": [0.1], "b": [0.3]})
    )
    lower = answer(result({"base": [0.4], "a": [0.1]}, measure="median_kl"), "median_kl")
    assert "the best number is 'a' with 0.1" in lower
    assert "has not finished" in answer(result({"base": [None], "a": [0.9]}))


def test_the_table_has_a_row_for_every_run_finished_or_not():
    frame = result({"base": [0.4, None], "a": [0.5, 0.6]}).to_frame()
    assert list(frame["state"]) == ["finished", "stopped", "finished", "finished"]
    assert math.isnan(frame["recovered"][1]) and frame["recovered"][3] == 0.6

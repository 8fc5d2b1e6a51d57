"""Figures of an experiment carry its numbers; its report is one file in which names are text."""

import re
from dataclasses import replace

import numpy as np
import pytest

from npt_viz.figures.experiments import aligned_curves, arm_strips, arm_style, final_numbers
from npt_viz.figures.report import report
from npt_viz.results.experiments import ArmRun, ExperimentResult, Strip
from npt_viz.results.health import RULES, Finding
from npt_viz.results.training import Alarm, Curves

HOSTILE = "<img src=x onerror=alert(1)></script><b>"
VALUES = {("a", 0): [1.0, 2.0, 4.0], ("a", 1): [3.0, 2.0], (HOSTILE, 0): [5.0, 5.0, 5.0]}


@pytest.fixture
def result():
    def run(arm, seed):
        values = VALUES.get((arm, seed), [])
        steps = np.arange(1, len(values) + 1)
        finding = Finding(
            rule=next(iter(RULES)), severity="error", layer=2, evidence={}, meaning="m.", action="a."
        )
        return ArmRun(
            arm=arm,
            seed=seed,
            state="finished" if values else "failed",
            done=len(values),
            curves={2: Curves(layer=2, steps=steps, columns={"total": np.array(values)})} if values else {},
            final={"recovered": values[-1] / 10} if values else {},
            findings=(finding,) if values else (),
            alarms=(Alarm(rule="dominates", severity="warning", step=3, layer=2, sentence="s."),),
            strip=Strip(tokens=(HOSTILE, "y"), columns={"kl": np.array([0.1, 0.2 + seed])})
            if values
            else None,
            error=None if values else HOSTILE,
        )

    return ExperimentResult(
        name=HOSTILE,
        arms={"a": "1 direct", HOSTILE: "1 kl"},
        seeds=(0, 1),
        reference="a",
        steps=3,
        setup="layer 2 of a model",
        runs=tuple(run(arm, seed) for arm in ("a", HOSTILE) for seed in (0, 1)),
        base={},
    )


def test_a_line_is_the_mean_where_all_seeds_have_arrived_and_a_band_holds_them(result):
    figure = aligned_curves(result, "total", layer=2)
    band, line, other = figure.data
    np.testing.assert_array_equal(line.x, [1, 2])
    np.testing.assert_array_equal(line.y, [2.0, 2.0])
    np.testing.assert_array_equal(band.y, [3.0, 2.0, 2.0, 1.0])
    np.testing.assert_array_equal(other.y, [5.0, 5.0, 5.0])
    assert line.line.color == arm_style(result, "a")["color"] != other.line.color


def test_every_seed_is_a_point_at_its_number(result):
    figure = final_numbers(result, "recovered")
    points = {tuple(trace.y): sorted(trace.x) for trace in figure.data}
    assert points == {(1, 1): [0.2, 0.4], (0,): [0.5]}
    assert {note.text for note in figure.layout.annotations} == {"no modulation", "perfect"}


def test_strips_show_the_finished_arms_of_one_seed(result):
    assert arm_strips(result, "kl", seed=0).data[0].z.tolist() == [[0.1, 0.2], [0.1, 0.2]]
    assert arm_strips(result, "kl", seed=1).data[0].z.tolist() == [[0.1, 1.2]]
    assert arm_strips(result, "other", seed=0) is None


def test_the_report_is_whole_and_nothing_in_it_is_run_or_fetched(result):
    page = report(result)
    without_plotly = re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.S)
    assert len(without_plotly) < len(page) / 4, "plotly is inside, once"
    assert "<img" not in without_plotly.lower()
    assert "&lt;img src=x" in without_plotly
    assert "warning at step 3: dominates" in without_plotly and "layer 2 of a model" in without_plotly
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", without_plotly)
    # Every script that begins also ends where its author ended it.
    assert without_plotly.count("<script") == without_plotly.count("</script>")


def test_the_report_says_what_could_not_be_read(result):
    page = report(replace(result, notes=("<a>, seed 0: 3 lines could not be read",)))
    assert "&lt;a&gt;, seed 0: 3 lines could not be read" in page


def test_colours_repeat_with_another_dash(result):
    many = ExperimentResult(
        name="m", arms={str(i): "" for i in range(15)}, seeds=(0,), reference="0", steps=1, runs=(), base={}
    )
    assert len({tuple(arm_style(many, arm).values()) for arm in many.arms}) == 15


def test_an_arm_far_off_is_told_at_the_edge_and_leaves_the_others_room(result):
    def run(arm, value):
        return ArmRun(arm=arm, seed=0, state="finished", done=1, curves={}, final={"recovered": value})

    wild = ExperimentResult(
        name="w", arms=dict.fromkeys("abc", ""), seeds=(0,), reference="a", steps=1, base={},
        runs=(run("a", 0.3), run("b", 0.5), run("c", -72.3)),
    )  # fmt: skip
    figure = final_numbers(wild, "recovered")
    low, high = figure.layout.xaxis.range
    assert -1 < low < 0 and 1 < high < 1.2
    assert "← −72.3" in {note.text for note in figure.layout.annotations}

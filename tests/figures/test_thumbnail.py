"""Thumbnails: bars where the numbers are, small for any prompt, well-formed and without text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from npt_viz.figures.theme import ABOVE, BELOW
from npt_viz.figures.thumbnail import HEIGHT, MOST_BARS, WIDTH, curve, profile
from npt_viz.workspace.entry import LONGEST_THUMBNAIL


def bars(svg: str) -> dict[str, list[tuple[float, float, float]]]:
    """Colour -> (left, top, length) of its bars."""
    root = ElementTree.fromstring(svg)
    paths = [each for each in root if "fill" in each.attrib and each.tag.endswith("}path")]
    number = r"(-?[\d.]+)"
    return {
        each.attrib["fill"]: [
            tuple(map(float, found))
            for found in re.findall(rf"M{number} {number}h[\d.]+v{number}", each.attrib["d"])
        ]
        for each in paths
    }


def test_bars_stand_where_the_numbers_are():
    drawn = bars(profile(np.array([1.0, np.nan, 0.5, 1.0])))
    assert list(drawn) == [ABOVE]
    step = WIDTH / 4
    assert drawn[ABOVE] == [(0, 0, HEIGHT), (2 * step, HEIGHT / 2, HEIGHT / 2), (3 * step, 0, HEIGHT)]


def test_bars_go_down_below_the_reference():
    drawn = bars(profile(np.array([1.5, 0.5, 1.0]), reference=1.0))
    assert drawn[ABOVE] == [(0, 0, HEIGHT / 2)] and drawn[BELOW] == [(WIDTH / 3, HEIGHT / 2, HEIGHT / 2)]


def test_of_a_long_prompt_no_extreme_is_lost():
    values = np.full(4001, 0.1)
    values[1234] = -7.0
    drawn = bars(profile(values))
    assert len(drawn[BELOW]) == 1 and len(drawn[ABOVE]) == MOST_BARS - 1
    assert drawn[BELOW][0][0] == pytest.approx(WIDTH * 1234 / 4001, abs=WIDTH / MOST_BARS)


def test_a_curve_goes_through_its_ends():
    (line,) = ElementTree.fromstring(curve([3.0, np.nan, 2.0, 1.0]))
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points == [(0, 1), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT - 1)]


@pytest.mark.parametrize(
    "values",
    [[], [np.nan] * 3, [np.inf, 1.0], [0.0] * 5, [2.0], np.random.default_rng(0).normal(size=5000) * 1e9],
)
def test_any_numbers_give_a_small_picture_without_text(values):
    for svg in (profile(np.array(values)), profile(np.array(values), None), curve(values)):
        assert len(svg) <= LONGEST_THUMBNAIL
        root = ElementTree.fromstring(svg)
        assert "".join(root.itertext()) == "" and not {"script", "image", "a"} & {
            e.tag.rpartition("}")[2] for e in root.iter()
        }

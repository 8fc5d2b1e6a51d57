"""When another way to use an adapter is clearly better."""

import math

import pytest

from npt_viz.results.better import is_better, may_be_better
from npt_viz.results.estimate import Estimate


def near(value: float, width: float = 0.01) -> Estimate:
    return Estimate(value, value - width, value + width, 101)


@pytest.mark.parametrize(
    ("own", "other", "better"),
    [
        (0.025, 0.586, True),  # gate alone, without RoPE
        (0.246, 0.638, True),  # gate and up, layer 8
        (0.29, 0.85, True),  # layer 20
        (0.03, 0.28, True),  # gate alone, layer 5
        (0.0, 0.18, True),  # gate alone, layer 23
        (0.115, 0.237, False),  # a healthy one that recovers little
        (0.80, 0.87, False),  # a healthy one
        (0.55, 0.72, False),  # a healthy one, layer 28
        (0.90, 0.998, True),  # little, but nearly all that was left
        (-0.9, 0.04, False),  # fits nothing either
    ],
)
def test_without_rope_needs_more_than_what_is_simpler(own, other, better):
    assert is_better("positions", near(own), near(other), near(other - own)) is better


def test_a_wide_interval_is_not_clear_and_may_be_better():
    own, other, gain = near(0.2, 0.3), near(0.6, 0.3), near(0.4, 0.3)
    assert not is_better("positions", own, other, gain)
    assert may_be_better("positions", own, other, gain)
    assert not may_be_better("positions", near(0.2), near(0.25), near(0.05))
    assert may_be_better("positions", near(0.2, 0.2), near(0.25, 0.2), near(0.05, 0.2)), "no power to see it"
    assert may_be_better("positions", *3 * [Estimate(0.0, -math.inf, math.inf, 3)]), "three tokens"
    assert not may_be_better("positions", near(0.2), near(0.9), near(0.7)), "that is better"


def test_another_layer_has_to_be_the_adapters_home():
    assert is_better("layer", near(0.0), near(0.8), near(0.8))
    assert is_better("layer", near(0.0), near(0.083), near(0.083)), (
        "a gate of rank 8 recovers no more at home"
    )
    assert not is_better("layer", near(0.28), near(0.51), near(0.19)), "layer 0 is simply easier"


def test_a_way_that_changes_one_part_must_recover_more_than_chance_finds():
    """Shuffled weights: −0.47 as they stand, 0.18 with a quarter of what they add to down."""
    own, other, gain = near(-0.47), near(0.18), near(0.65)
    assert is_better("size", own, other, gain) and not is_better("size", own, other, gain, in_part=True)
    assert not is_better("swapped", own, other, gain)
    assert is_better("sign", near(0.62), near(0.65), near(0.015, 0.008), in_part=True), (
        "what little a small part costs"
    )
    assert not may_be_better("size", own, other, gain, in_part=True)


def test_each_kind_has_its_margin():
    gain = near(0.08, 0.02)
    found = {
        kind: is_better(kind, near(0.5), near(0.58), gain) for kind in ("size", "swapped", "reading", "sign")
    }
    assert found == {"size": True, "swapped": True, "reading": False, "sign": True}

"""Three neutral copies of faulty checkpoints: each fault is named on the first screen, in few clicks and without typing."""

import hunt
import pytest

from npt_viz.results.health import RULES

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def ground():
    with hunt.hunting_ground() as server:
        yield server


@pytest.mark.parametrize("specimen", hunt.SPECIMENS, ids=lambda each: each.rule)
def test_the_fault_is_named_on_the_first_screen(chromium, ground, specimen):
    found = hunt.hunt(chromium, ground, specimen)
    assert found.clicks <= hunt.MOST_CLICKS
    assert RULES[specimen.rule].title in found.words.lower().replace("rope", "RoPE")

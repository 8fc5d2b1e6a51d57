"""The pinned token's pictures show the card's numbers."""

import numpy as np
import pytest

from npt_viz.figures.card import gate_units, vocabulary_changes
from npt_viz.results.token_card import LogitChange, TokenCard, Unit


@pytest.fixture
def card() -> TokenCard:
    return TokenCard(
        layer=3,
        token=2,
        scalars={"gate": np.array([0.5])},
        update_norms={"gate": 1.5},
        units=(Unit(index=17, before=-1.0, after=2.0), Unit(index=5, before=0.5, after=0.25)),
        n_units=31,
        effective_units=1.3,
        promoted=(LogitChange(glyph="<i>", id=7, change=0.9), LogitChange(glyph="␣a", id=8, change=0.2)),
        suppressed=(LogitChange(glyph="␣b", id=9, change=-0.7), LogitChange(glyph="c", id=10, change=-0.1)),
        output_change_norm=1.0,
        linearised_at="the final state",
    )


def test_the_unit_moved_most_is_on_top_with_before_and_after(card):
    before, after = (trace for trace in gate_units(card).data if trace.name in ("base", "NPT"))
    assert list(before.x) == [0.5, -1.0]
    assert list(after.x) == [0.25, 2.0]
    assert gate_units(card).layout.yaxis.ticktext[-1] == "unit 17"


def test_logits_are_ordered_from_most_promoted_to_most_suppressed(card):
    figure = vocabulary_changes(card)
    assert list(figure.data[0].x)[::-1] == [0.9, 0.2, -0.1, -0.7]
    assert figure.layout.yaxis.ticktext[::-1] == ("&lt;i&gt;", "␣a", "c", "␣b")

"""The sentence says what the numbers say."""

from dataclasses import replace

import numpy as np
import pytest
from views import layer, view

from npt_viz.ui.widgets import answers


def test_the_share_is_the_median_of_the_tokens_that_count():
    said = answers.tokens(view(layer(7, [-90, 0.2, 0.4, 0.6, 0.5])))
    assert (
        "Layer 7 recovers **45\N{NO-BREAK SPACE}%**" in said and "median over 4 tokens, sink left out" in said
    )
    counted = answers.tokens(view(layer(7, [-90, 0.2, 0.4, 0.6, 0.5]), left_out=False))
    assert "**40\N{NO-BREAK SPACE}%**" in counted and "median over 5 tokens)" in counted


def test_the_token_named_is_the_one_with_the_largest_kl_as_text():
    assert "most after `*b*` (KL **0.31** nats)" in answers.tokens(view(layer(7, [0.5] * 5), glyph="*b*"))


def test_a_sink_is_not_the_token_that_is_named_but_its_number_is_not_hidden():
    loud = replace(view(layer(7, [0.5] * 5)).run, kl=np.array([9.0, 0.1, 0.05, 0.31, 0.2]))
    said = answers.tokens(replace(view(layer(7, [0.5] * 5)), run=loud))
    assert "most after `␣cat` (KL **0.31** nats; 9 after the sink `a`)" in said


def test_worse_than_nothing_is_said_so():
    assert "squared error is 3.00 times" in answers.tokens(view(layer(7, [-2.0] * 5)))


@pytest.mark.parametrize("recovered", [-0.001, 0.0, 0.001])
def test_nothing_is_zero_percent_without_a_sign(recovered):
    assert "recovers **0\N{NO-BREAK SPACE}%**" in answers.tokens(view(layer(7, [recovered] * 5)))


def test_several_layers_are_ranked_by_their_medians():
    said = answers.tokens(view(layer(3, [0.9] * 5), layer(7, [0.5] * 5), layer(11, [0.1] * 5)))
    assert (
        "Of the 3 NPT layers, 3 recovers most (90\N{NO-BREAK SPACE}%) and 11 least (10\N{NO-BREAK SPACE}%)"
        in said
    )
    assert "layers 3, 7, 11 together" in said


def test_where_attention_stays_there_is_no_share():
    said = answers.tokens(view(layer(7, [np.nan] * 5)))
    assert "keeps the base model's attention" in said and "**35\N{NO-BREAK SPACE}%**" in said


def test_only_a_positive_number_of_tokens_has_a_median():
    assert answers.typical(np.array([np.nan, 2.0]), np.array([False, True]))[1] == 0

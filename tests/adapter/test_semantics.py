"""The description that every variant is made from."""

import pytest

from npt_viz.adapter import VARIANTS, Semantics, variant_name
from npt_viz.errors import NptVizError


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_told_apart_by_its_forward_pass(name):
    assert variant_name(VARIANTS[name].semantics, VARIANTS[name].targets) == name


def test_a_forward_pass_without_a_name_is_described():
    assert variant_name(Semantics(), ("down",)) == "down, attention withheld"
    assert variant_name(Semantics(attention="standard"), ("gate",)) == "gate, attention standard"


def test_the_scale_of_a_file_does_not_hide_its_variant():
    assert variant_name(Semantics(scale=0.25), ("gate",)) == "S2"
    assert variant_name(Semantics(rule="low_rank_tanh", scale=0.3), ("gate",)) == "T1"


@pytest.mark.parametrize(
    "attention, target",
    [
        ("withheld", "a + MLP(z_C)"),
        ("beside", "MLP(z_C)"),
        ("standard", "MLP(z_C)"),
        ("mlp_only", "a + MLP(z_C)"),
    ],
)
def test_attention_that_is_kept_need_not_be_reconstructed(attention, target):
    assert Semantics(attention=attention).reconstructs == target


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": "half_sigmoid"},
        {"rule": "additive_multiplicative"},
        {"rule": "multiplicative"},
        {"rule": "additive", "factor": "half_sigmoid"},
    ],
)
def test_a_factor_goes_with_the_multiplicative_rule_and_only_with_it(settings):
    with pytest.raises(
        NptVizError, match="factor goes with the rules multiplicative and additive_multiplicative"
    ):
        Semantics(**settings)


def test_two_variants_that_differ_in_scale_alone_keep_their_names():
    assert variant_name(Semantics(rule="additive", attention="standard"), ("gate",)) == "S0-residual"
    safe = Semantics(rule="additive", attention="standard", scale=0.1)
    assert variant_name(safe, ("gate",)) == "S1-add+residual"
    assert variant_name(Semantics(rule="additive", scale=0.3), ("gate",)) == "gate, attention withheld"


def test_a_layer_that_has_no_name_is_described_by_its_targets_and_attention_path():
    assert variant_name(Semantics(), ("up", "down")) == "up+down, attention withheld"
    assert variant_name(Semantics(attention="standard"), ("gate",)) == "gate, attention standard"

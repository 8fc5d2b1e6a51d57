"""Semantics has a provenance; a choice applies where the tensors allow it and is refused where not."""

import pytest
import torch
from handmade import S0, S1_ADD, S1_MULT, S2, format_a, format_b, format_c
from safetensors.torch import save_file

from npt_viz import NptVizError, open_checkpoint
from npt_viz.adapter import Semantics
from npt_viz.checkpoint.meaning import from_fields


@pytest.fixture
def merged(tmp_path):
    """One, two and three targets."""
    tensors = format_a(0) | format_a(1, ("gate", "up")) | format_a(2, ("gate", "up", "down"))
    torch.save(tensors, tmp_path / "npt_weights.pt")
    return tmp_path


def variants(checkpoint):
    return [row.variant for row in checkpoint.report.layers]


def test_key_names_give_the_reading_without_the_attention_residual(merged):
    checkpoint = open_checkpoint(merged)
    assert variants(checkpoint) == ["N1", "N4", "N5"]
    assert checkpoint.report.provenance == "inferred from key names"


def test_what_key_names_cannot_tell_is_said_with_the_way_out(merged):
    warnings = open_checkpoint(merged).report.warnings
    assert any("layer 0" in w and "N2" in w and "probe" in w for w in warnings)
    assert any("layer 1" in w and "N3" in w and "probe" in w for w in warnings)
    assert not any("layer 2" in w for w in warnings)


@pytest.mark.parametrize("name", ["N2", "N3", "n2", "beside"])
def test_a_name_stands_for_its_attention_path_whatever_the_targets(merged, name):
    checkpoint = open_checkpoint(merged, semantics=name)
    assert {checkpoint.semantics(layer).attention for layer in checkpoint.layers} == {"beside"}
    assert variants(checkpoint)[:2] == ["N2", "N3"]
    assert checkpoint.report.provenance == "chosen by the user"
    assert not any("share all key names" in w for w in checkpoint.report.warnings), "the doubt is settled"


@pytest.mark.parametrize("name", ["N1", "N4", "N5", "withheld"])
def test_the_other_family_withholds_attention(merged, name):
    checkpoint = open_checkpoint(merged, semantics=name)
    assert variants(checkpoint) == ["N1", "N4", "N5"]


def test_layers_can_be_read_differently(merged):
    checkpoint = open_checkpoint(merged, semantics={0: "N2", 2: Semantics(scale=0.5)})
    assert [checkpoint.semantics(layer).attention for layer in (0, 1, 2)] == [
        "beside",
        "withheld",
        "withheld",
    ]
    assert [checkpoint.semantics(layer).scale for layer in (0, 1, 2)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["S0", "S1-early", "T1"])
def test_a_rule_without_its_tensors_is_refused_with_those_that_fit(merged, name):
    with pytest.raises(NptVizError, match=r"layer 0 has the tensors of rank_one_sum; choose one of N1, N2"):
        open_checkpoint(merged, semantics=name)


def test_an_unknown_name_is_answered_with_the_known_ones(merged):
    with pytest.raises(NptVizError, match=r"semantics 'N9' is unknown; choose one of N1, N2"):
        open_checkpoint(merged, semantics="N9")


def test_a_choice_for_a_layer_that_is_not_there_is_refused(merged):
    with pytest.raises(NptVizError, match="no layer 7"):
        open_checkpoint(merged, semantics={7: "N2"})


def test_the_files_scale_survives_the_choice_of_its_own_variant(tmp_path):
    save_file(format_b(1, S2), tmp_path / "model.safetensors")
    torch.save({"adapter_config": {"modulation_scale": 0.25}}, tmp_path / "training_info.pt")
    scale = {name: open_checkpoint(tmp_path, semantics=name).semantics(1).scale for name in ("S2", "N1")}
    assert scale == {"S2": 0.25, "N1": 1.0}


def test_an_attention_path_can_be_chosen_for_any_rule(tmp_path):
    save_file(format_b(1, S0), tmp_path / "model.safetensors")
    torch.save(format_c((1,)), tmp_path / "c.pt")
    assert open_checkpoint(tmp_path / "model.safetensors").semantics(1).attention == "mlp_only"
    assert (
        open_checkpoint(tmp_path / "model.safetensors", semantics="withheld").semantics(1).attention
        == "withheld"
    )
    chosen = open_checkpoint(tmp_path / "c.pt", semantics="standard").semantics(1)
    assert (chosen.attention, chosen.scale) == ("standard", 0.37)


@pytest.mark.parametrize("choice", ["probe", "Probe", {0: "probe"}])
def test_the_probe_is_sent_to_where_checkpoints_are_opened(merged, choice):
    with pytest.raises(NptVizError, match=r"npt_viz\.open_checkpoint"):
        open_checkpoint(merged).with_semantics(choice)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (None, "rule and attention"),
        ({"rule": "rank_one_sum"}, "rule and attention"),
        ({"rule": "magic", "attention": "withheld"}, "'magic'"),
        ({"rule": ["rank_one_sum"], "attention": "withheld"}, "rank_one_sum"),
        ({"rule": "rank_one_sum", "attention": "gone"}, "'gone'"),
        ({"rule": "rank_one_sum", "attention": "withheld", "scale": "big"}, "'big'"),
        ({"rule": "rank_one_sum", "attention": "withheld", "scale": True}, "True"),
        ({"rule": "rank_one_sum", "attention": "withheld", "gain": 2}, "gain"),
        ({"rule": "rank_one_sum", "attention": "withheld", "factor": "half_sigmoid"}, "factor"),
        ({"rule": "additive_multiplicative", "attention": "withheld"}, "factor"),
    ],
)
def test_spelled_out_semantics_is_checked_field_by_field(fields, named):
    with pytest.raises(NptVizError, match=named.replace("(", r"\(")):
        from_fields(fields, "npt_config.json")


def test_the_three_readings_of_s0_are_named_with_where_they_come_from(tmp_path, tiny_llama):
    save_file(format_b(1, S0) | format_b(3, S0), tmp_path / "model.safetensors")
    found = open_checkpoint(tmp_path, tiny_llama).report
    assert (found.semantics, found.provenance) == ("S0", "inferred from key names")
    [doubt] = [warning for warning in found.warnings if "the file cannot tell" in warning]
    assert doubt.startswith("layers 1, 3: ")
    for part in ("read as S0", "ed740ce", "S0-pooled", "fa8c51e", "S0-residual", "design document"):
        assert part in doubt
    assert {"S0", "S0-pooled", "S0-residual"} <= set(found.layers[0].readings)
    chosen = open_checkpoint(tmp_path, tiny_llama, semantics="s0-pooled").report
    assert (chosen.semantics, chosen.provenance) == ("S0-pooled", "chosen by the user")
    assert chosen.layers[0].components == chosen.layers[0].rank == 7
    assert any("depends on the tokens after it" in warning for warning in chosen.warnings)
    assert not any("the file cannot tell" in warning for warning in chosen.warnings)


@pytest.mark.parametrize(("roles", "absent"), [(S1_ADD, "B_mult"), (S1_MULT, "B_add")])
def test_half_of_s1_opens_and_says_what_may_be_lost(tmp_path, tiny_llama, roles, absent):
    save_file(format_b(1, roles), tmp_path / "model.safetensors")
    found = open_checkpoint(tmp_path, tiny_llama).report
    assert (found.tensors_used, found.tensors_total) == (2, 2)
    assert any(f"There is no {absent}" in w or f"there is no {absent}" in w for w in found.warnings)

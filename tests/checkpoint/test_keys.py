"""Every format × variant, built by hand and held against its formula in the file's own orientation."""

import argparse
import json

import pytest
import torch
from handmade import (
    NP,
    NP_COMPONENT,
    S0,
    S1,
    S1_ADD,
    S1_MULT,
    S2,
    change_a,
    format_a,
    format_b,
    format_c,
    linears,
    tokens,
)
from safetensors.torch import save_file

from npt_viz import NptVizError, open_checkpoint
from npt_viz.adapter import VARIANTS, Semantics, random_adapter
from npt_viz.checkpoint.keys import named_tensors, parsed_key

SUBSETS = [
    ("gate",),
    ("up",),
    ("down",),
    ("gate", "up"),
    ("gate", "down"),
    ("up", "down"),
    ("gate", "up", "down"),
]


def assert_change(adapter, target, formula):
    """adapter.change at every token equals formula(attention, x, unmodulated) of one token."""
    attention, x, unmodulated = tokens(target)
    expected = torch.stack([formula(*row) for row in zip(attention, x, unmodulated, strict=True)])
    found = adapter.change(target, attention, x, unmodulated)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", SUBSETS, ids="+".join)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("prefix", [NP, NP_COMPONENT], ids=["np", "np_component"])
def test_format_a_is_a_rank_one_sum_for_every_target_set(tmp_path, tiny_llama, targets, components, prefix):
    tensors = format_a(2, targets, components=components, prefix=prefix)
    torch.save(tensors, tmp_path / "npt_weights.pt")
    adapter = open_checkpoint(tmp_path, tiny_llama).adapter(2)
    assert adapter.targets == targets and adapter.attention == "withheld"
    for target in targets:
        assert_change(
            adapter,
            target,
            lambda a, x, _, target=target: change_a(
                tensors, 2, target, a, x, components=components, single=targets == ("gate",), prefix=prefix
            ),
        )


def test_format_a_with_one_indexed_component(tmp_path):
    """A ParameterList of one writes `.0`."""
    tensors = format_a(2, indexed=True)
    torch.save(tensors, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert_change(
        checkpoint.adapter(2), "gate", lambda a, x, _: change_a(tensors, 2, "gate", a, x, indexed=True)
    )


def test_format_a_gate_suffix_alone(tmp_path):
    tensors = format_a(2, ("gate", "up"))
    only_gate = {name: tensor for name, tensor in tensors.items() if name.endswith("_gate")}
    torch.save(only_gate, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.report.semantics == "N1"
    assert_change(
        checkpoint.adapter(2), "gate", lambda a, x, _: change_a(tensors, 2, "gate", a, x, single=False)
    )


def test_format_a_layers_that_differ_from_each_other(tmp_path, tiny_llama):
    """A merged file: other targets, ranks, components and prefixes in every layer."""
    merged = (
        format_a(0, rank=5)
        | format_a(1, ("gate", "up"), components=2, rank=11, prefix=NP_COMPONENT)
        | format_a(4, ("gate", "up", "down"), components=3, rank=3)
    )
    torch.save(merged, tmp_path / "accumulated_npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path, tiny_llama)
    found = {row.layer: (row.variant, row.rank, row.components) for row in checkpoint.report.layers}
    assert found == {0: ("N1", 5, 1), 1: ("N4", 11, 2), 4: ("N5", 3, 3)}
    assert_change(
        checkpoint.adapter(4),
        "down",
        lambda a, x, _: change_a(merged, 4, "down", a, x, components=3, single=False),
    )


def test_format_a_ranks_may_differ_between_targets(tmp_path):
    wide, narrow = format_a(2, ("gate", "up"), rank=11), format_a(2, ("gate", "up"), rank=5)
    mixed = {name: (wide if name.endswith("_gate") else narrow)[name] for name in wide}
    torch.save(mixed, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.report.layers[0].ranks == {"gate": 11, "up": 5}
    assert_change(checkpoint.adapter(2), "up", lambda a, x, _: change_a(mixed, 2, "up", a, x, single=False))


def test_format_a_in_safetensors(tmp_path):
    tensors = format_a(2, ("gate", "up"))
    save_file(tensors, tmp_path / "npt_weights.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == "A"
    assert_change(
        checkpoint.adapter(2), "gate", lambda a, x, _: change_a(tensors, 2, "gate", a, x, single=False)
    )


def training_info(folder, scale, where="args"):
    args = argparse.Namespace(learning_rate=3e-4, modulation_scale=scale if where == "args" else None)
    config = {"r": 7, "modulation_scale": scale} if where == "adapter_config" else {"r": 7}
    torch.save({"step": 11, "args": args, "adapter_config": config}, folder / "training_info.pt")


@pytest.mark.parametrize("where", ["args", "adapter_config"])
def test_format_b_s2_takes_its_scale_from_training_info(tmp_path, tiny_llama, where):
    tensors = format_b(3, S2)
    save_file(tensors, tmp_path / "model.safetensors")
    training_info(tmp_path, 0.25, where)
    checkpoint = open_checkpoint(tmp_path, tiny_llama)
    assert (checkpoint.report.semantics, checkpoint.report.provenance) == ("S2", "from the file")
    assert checkpoint.adapter(3).attention == "withheld"

    def formula(a, x, _):
        v = linears(tensors, 3, a)
        return 0.25 * v["B_ffn"] * (v["B_model"] @ x.double())

    assert_change(checkpoint.adapter(3), "gate", formula)


def test_format_b_s2_without_training_info_says_that_its_scale_is_a_default(tmp_path):
    tensors = format_b(3, S2)
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.report.provenance == "inferred from key names"
    assert any("modulation_scale" in warning and "0.1" in warning for warning in checkpoint.report.warnings)

    def formula(a, x, _):
        v = linears(tensors, 3, a)
        return 0.1 * v["B_ffn"] * (v["B_model"] @ x.double())

    assert_change(checkpoint.adapter(3), "gate", formula)


@pytest.mark.parametrize(
    ("name", "path"), [(None, "mlp_only"), ("S0", "mlp_only"), ("S0-residual", "standard")]
)
def test_format_b_s0_adds_whatever_the_residuals(tmp_path, tiny_llama, name, path):
    tensors = format_b(3, S0)
    save_file(tensors, tmp_path / "model.safetensors")
    adapter = open_checkpoint(tmp_path, tiny_llama, semantics=name).adapter(3)
    assert adapter.attention == path
    assert_change(adapter, "gate", lambda a, x, _: linears(tensors, 3, a)["B_proj"])


def test_format_b_s0_pooled_is_one_weight_change_for_the_text(tmp_path, tiny_llama):
    tensors = format_b(3, S0)
    save_file(tensors, tmp_path / "model.safetensors")
    adapter = open_checkpoint(tmp_path, tiny_llama, semantics="S0-pooled").adapter(3)
    assert adapter.attention == "withheld"
    attention, x, gate = tokens()
    found = adapter.of_text(attention).change("gate", attention, x, gate)
    A, B = (tensors[f"model.layers.3.adapter.{role}.weight"].double() for role in S0)
    change = B @ torch.diag(A @ attention.double().mean(0)) @ A
    torch.testing.assert_close(found.double(), x.double() @ change.T, rtol=1e-5, atol=1e-6)
    with pytest.raises(NptVizError, match="mean attention of a whole text"):
        adapter.change("gate", attention, x, gate)


@pytest.mark.parametrize("suffix", ["", "+residual"])
def test_format_b_s1_additive_only_adds_a_tenth(tmp_path, tiny_llama, suffix):
    tensors = format_b(3, S1_ADD)
    save_file(tensors, tmp_path / "model.safetensors")
    adapter = open_checkpoint(tmp_path, tiny_llama, semantics=f"S1-add{suffix}" if suffix else None).adapter(
        3
    )
    assert adapter.attention == ("standard" if suffix else "withheld")
    assert adapter.variant == f"S1-add{suffix}"
    assert_change(adapter, "gate", lambda a, x, _: 0.1 * linears(tensors, 3, a)["B_add"])


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("S1-mult-design", lambda x: 1 + torch.sigmoid(x)),
        ("S1-mult-early", lambda x: 1 + torch.tanh(x)),
        ("S1-mult-later", lambda x: 0.5 * torch.sigmoid(x) + 0.5),
        (None, lambda x: 0.5 * torch.sigmoid(x) + 0.5),
        ("S1-mult-later+residual", lambda x: 0.5 * torch.sigmoid(x) + 0.5),
    ],
)
def test_format_b_s1_multiplicative_only_in_each_recipe(tmp_path, tiny_llama, name, factor):
    tensors = format_b(3, S1_MULT)
    save_file(tensors, tmp_path / "model.safetensors")
    adapter = open_checkpoint(tmp_path, tiny_llama, semantics=name).adapter(3)
    assert adapter.variant == name or name is None

    def formula(a, x, gate):
        return gate.double() * factor(linears(tensors, 3, a)["B_mult"]) - gate.double()

    assert_change(adapter, "gate", formula)


@pytest.mark.parametrize(
    ("name", "factor", "share"),
    [
        ("S1-design", lambda x: 1 + torch.sigmoid(x), 1.0),
        ("S1-early", lambda x: 1 + torch.tanh(x), 1.0),
        ("S1-later", lambda x: 0.5 * torch.sigmoid(x) + 0.5, 0.1),
        ("S1-later+residual", lambda x: 0.5 * torch.sigmoid(x) + 0.5, 0.1),
    ],
)
def test_format_b_s1_in_each_recipe(tmp_path, tiny_llama, name, factor, share):
    tensors = format_b(3, S1)
    save_file(tensors, tmp_path / "model.safetensors")
    adapter = open_checkpoint(tmp_path, tiny_llama, semantics=name).adapter(3)
    assert adapter.attention == ("standard" if name.endswith("residual") else "withheld")

    def formula(a, x, gate):
        v = linears(tensors, 3, a)
        return gate.double() * factor(v["B_mult"]) + share * v["B_add"] - gate.double()

    assert_change(adapter, "gate", formula)


def test_format_b_s1_is_read_as_the_later_recipe_and_says_so(tmp_path):
    save_file(format_b(3, S1), tmp_path / "model.safetensors")
    report = open_checkpoint(tmp_path).report
    assert report.semantics == "S1-later"
    assert any("S1-design" in warning and "S1-early" in warning for warning in report.warnings)


def test_format_b_in_shards_equals_the_single_file(tmp_path):
    """Each layer's tensors lie in different shards."""
    tensors = format_b(1, S2) | format_b(3, S2)
    shards = {f"model-0000{i + 1}-of-00003.safetensors": dict(list(tensors.items())[i::3]) for i in range(3)}
    for file, part in shards.items():
        save_file(part, tmp_path / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole = tmp_path / "whole"
    whole.mkdir()
    save_file(tensors, whole / "model.safetensors")
    for path in (
        tmp_path,
        tmp_path / "model.safetensors.index.json",
        tmp_path / "model-00002-of-00003.safetensors",
    ):
        sharded = open_checkpoint(path)
        assert sharded.layers == (1, 3)
        for layer in sharded.layers:
            for one, other in zip(
                sharded.adapter(layer).parameters(),
                open_checkpoint(whole).adapter(layer).parameters(),
                strict=True,
            ):
                assert torch.equal(one, other)


def test_format_c_is_low_rank_tanh_with_the_scale_of_its_config(tmp_path, tiny_llama):
    content = format_c((1, 4), scale=0.37)
    torch.save(content, tmp_path / "npt.pt")
    checkpoint = open_checkpoint(tmp_path / "npt.pt", tiny_llama)
    assert (checkpoint.format, checkpoint.report.semantics, checkpoint.report.provenance) == (
        "C",
        "T1",
        "from the file",
    )
    assert all(claim.agrees for claim in checkpoint.report.claims) and len(checkpoint.report.claims) == 4

    def formula(a, x, _):
        A, B = (content["state_dict"][f"layer_4_{role}"].double() for role in "AB")
        return ((x.double() @ A) * 0.37 * torch.tanh(a.double() @ A)) @ B

    assert_change(checkpoint.adapter(4), "gate", formula)


def test_format_c_without_a_scale_says_that_it_is_a_default(tmp_path):
    content = format_c((1,))
    del content["config"]["modulation_scale"]
    torch.save(content, tmp_path / "npt.pt")
    report = open_checkpoint(tmp_path / "npt.pt").report
    assert report.provenance == "inferred from key names"
    assert any("modulation_scale" in warning for warning in report.warnings)


@pytest.mark.parametrize("rule", ["rank_one_sum", "additive", "additive_multiplicative", "low_rank_tanh"])
@pytest.mark.parametrize("components", [1, 3])
def test_written_names_are_read_as_what_they_were(rule, components):
    """Every argument of every target comes back under its own key, none twice."""
    semantics = Semantics(rule=rule, factor="half_sigmoid" if rule == "additive_multiplicative" else None)
    targets = ("gate", "up") if rule == "low_rank_tanh" else ("gate", "up", "down")
    adapter = random_adapter(13, semantics, targets, d_model=5, d_ffn=11, rank=3, components=components)
    names = list(named_tensors(adapter))
    parsed = [parsed_key(name) for name in names]
    assert len(set(parsed)) == len(names)
    assert {key.layer for key in parsed} == {13}
    assert {key.target for key in parsed} == set(targets)


@pytest.mark.parametrize(
    "name",
    [
        "layer_2_np.W_downs",
        "layer_2_np.W_down_sideways",
        "layer_2_np.W_down.x",
        "layer_x_np.W_down",
        "xlayer_2_np.W_down",
        "layer_2_np.W_down.0.0",
        "layer_" + "9" * 5000 + "_np.W_down",
        "layer_2_np.W_down." + "9" * 5000,
        "layer_2_C",
        "layer_2_A_down",
        "model.layers.2.adapter.A_proj.bias",
    ],
)
def test_names_outside_the_grammar_are_no_npt_keys(name):
    assert parsed_key(name) is None


@pytest.mark.parametrize(
    ("variant", "role"),
    [
        ("S0", "B_proj"),
        ("S0-residual", "B_proj"),
        ("S0-pooled", "B_proj"),
        ("S1-add", "B_add"),
        ("S1-add+residual", "B_add"),
        ("S1-mult-early", "B_mult"),
    ],
)
def test_a_variant_is_written_under_the_names_that_its_own_code_has(variant, role):
    semantics = VARIANTS[variant].semantics
    adapter = random_adapter(7, semantics, ("gate",), d_model=5, d_ffn=11, rank=3)
    prefix = "model.layers.7.adapter."
    assert set(named_tensors(adapter)) == {f"{prefix}A_proj.weight", f"{prefix}{role}.weight"}


def test_a_component_without_a_number_beside_numbered_ones_is_said(tmp_path, tiny_llama):
    tensors = format_a(2, components=3)
    bare = {name.removesuffix(".0"): tensor for name, tensor in tensors.items()}
    save_file(bare, tmp_path / "npt_weights.safetensors")
    report = open_checkpoint(tmp_path, tiny_llama).report
    said = [warning for warning in report.warnings if "has no number" in warning]
    assert said and "layer_2_np.W_down has no number beside layer_2_np.W_down.1" in said[0]
    assert "is read as component 0" in said[0]
    save_file(tensors, tmp_path / "npt_weights.safetensors")
    numbered = open_checkpoint(tmp_path, tiny_llama).report
    assert not any("has no number" in warning for warning in numbered.warnings)

"""Whose base it is, and whether somebody edited it: fingerprints, names, the weights beside format B."""

import json

import pytest
import torch
from conftest import specimen, tiny_model
from handmade import S2, format_a, format_b
from safetensors.torch import save_file

from npt_viz import open_checkpoint
from npt_viz.checkpoint import save_checkpoint
from npt_viz.checkpoint.base_match import leading_singular_values

PROSE = {"recipe": {}, "figures": {}, "licence": "CC0-1.0"}


@pytest.fixture
def native(tmp_path, tiny_llama):
    return save_checkpoint(tmp_path / "native", {2: specimen(tiny_llama, "N1", 2)}, tiny_llama, **PROSE)


def test_the_base_it_was_made_on_matches(native, tiny_llama):
    assert open_checkpoint(native, tiny_llama).report.base_match.status == "match"


def test_the_same_base_in_bfloat16_matches(native):
    assert open_checkpoint(native, tiny_model(dtype=torch.bfloat16)).report.base_match.status == "match"


def test_another_base_of_the_same_shape_opens_with_a_warning(native):
    other = tiny_model()
    with torch.no_grad():
        other.parts(2).gate.weight[3, 5] += 0.5
    checkpoint = open_checkpoint(native, other)
    match = checkpoint.report.base_match
    assert match.status == "mismatch" and "layer 2" in match.sentence
    assert match.sentence in checkpoint.report.warnings
    checkpoint.adapter(2)


def test_a_change_in_a_layer_without_adapter_is_no_mismatch(native):
    """The fingerprint is of the layers in question."""
    other = tiny_model()
    with torch.no_grad():
        other.parts(1).gate.weight[3, 5] += 0.5
    assert open_checkpoint(native, other).report.base_match.status == "match"


def test_a_layer_under_another_number_is_the_same_base(native, tiny_llama):
    """The adapter and its fingerprint say layer 1; the weights that were hashed are those of layer 2."""
    file = native / "npt_config.json"
    config = json.loads(file.read_text())
    layers = config["base"]["fingerprint"]["layers"]
    layers["1"] = layers.pop("2")
    file.write_text(json.dumps(config))
    match = open_checkpoint(native, tiny_llama).report.base_match
    assert match.status == "match" and "what it calls layer 1 is layer 2" in match.sentence
    other = tiny_model()
    with torch.no_grad():
        other.parts(2).gate.weight[3, 5] += 0.5
    match = open_checkpoint(native, other).report.base_match
    assert match.status == "mismatch" and "in layer 1;" in match.sentence


def test_the_same_weights_under_another_config_are_a_mismatch(native):
    other = tiny_model()
    other.hf.config.rms_norm_eps = 0.5
    match = open_checkpoint(native, other).report.base_match
    assert match.status == "mismatch" and "config differs" in match.sentence


@pytest.mark.parametrize(
    ("claimed", "status"),
    [
        ("tiny", "unknown"),
        ("somewhere/Tiny", "unknown"),
        ("meta-llama/Llama-3.2-1B", "mismatch"),
        (None, "unknown"),
    ],
)
def test_a_claimed_name_is_evidence_against_never_for(tmp_path, tiny_llama, claimed, status):
    torch.save(format_a(2), tmp_path / "npt_weights.pt")
    (tmp_path / "config.json").write_text(json.dumps({"base_model_name": claimed}))
    report = open_checkpoint(tmp_path, tiny_llama).report
    assert report.base_match.status == status
    assert (report.base_match.sentence in report.warnings) == (status == "mismatch")


def test_without_a_model_nothing_is_claimed(native):
    assert open_checkpoint(native).report.base_match.status == "unknown"


@pytest.mark.parametrize("nonsense", [{"layers": 3}, {"layers": {"two": 1}}, {}, {"layers": {"99": "x"}}])
def test_a_damaged_fingerprint_is_no_match_and_no_crash(native, tiny_llama, nonsense):
    file = native / "npt_config.json"
    config = json.loads(file.read_text())
    config["base"]["fingerprint"] = nonsense
    file.write_text(json.dumps(config))
    assert open_checkpoint(native, tiny_llama).report.base_match.status == "mismatch"


def beside(model, layer=1, edits=(), dtype=torch.float32, original=None):
    """Format B: the adapter, the base's gate with rank-1 edits of these sizes, and the gate before them."""
    gate = model.parts(layer).gate.weight.detach().to(dtype)
    edited = gate.clone().float()
    for i, size in enumerate(edits):
        u, v = (torch.randn(n, generator=torch.Generator().manual_seed(40 + i)) for n in gate.shape)
        edited += size * torch.outer(u / u.norm(), v / v.norm())
    return format_b(layer, S2) | {
        f"model.layers.{layer}.mlp.gate_proj.weight": edited.to(dtype),
        f"model.layers.{layer}.original_gate_weight": gate.clone() if original is None else original,
    }


def test_gate_weights_beside_the_adapters_are_compared(tmp_path, tiny_llama):
    save_file(beside(tiny_llama), tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path, tiny_llama).report.base_match.status == "match"
    other = tiny_model()
    with torch.no_grad():
        other.parts(1).gate.weight.mul_(1.5)
    report = open_checkpoint(tmp_path, other).report
    assert report.base_match.status == "mismatch" and report.base_match.sentence in report.warnings


def test_no_edit_leaves_no_singular_value(tmp_path, tiny_llama):
    save_file(beside(tiny_llama), tmp_path / "model.safetensors")
    [edit] = open_checkpoint(tmp_path, tiny_llama).report.past_edits
    assert edit.singular_values == () and edit.note == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_edit_is_one_singular_value(tmp_path, tiny_llama, dtype):
    save_file(beside(tiny_llama, edits=[2.0], dtype=dtype), tmp_path / "model.safetensors")
    report = open_checkpoint(tmp_path, tiny_llama).report
    [edit] = report.past_edits
    assert edit.singular_values == pytest.approx([2.0], rel=1e-2)
    assert any("layer 1: gate_proj was edited" in warning for warning in report.warnings)


def test_three_edits_are_the_singular_values_of_their_sum(tmp_path, tiny_llama):
    tensors = beside(tiny_llama, edits=[2.0, 1.0, 0.3])
    save_file(tensors, tmp_path / "model.safetensors")
    before = tensors["model.layers.1.original_gate_weight"].double()
    expected = torch.linalg.svdvals(tensors["model.layers.1.mlp.gate_proj.weight"].double() - before)[:3]
    [edit] = open_checkpoint(tmp_path).report.past_edits
    assert edit.singular_values == pytest.approx(expected.tolist(), rel=1e-4)


def test_an_edit_below_rounding_is_not_claimed(tmp_path):
    """bf16 of a wide matrix: the change that rounding makes is full of small singular values, none an edit."""
    gate = torch.randn(311, 127)
    noisy = (gate + 1e-3 * gate.abs() * torch.randn(311, 127)).bfloat16()
    tensors = format_b(1, S2) | {
        "model.layers.1.mlp.gate_proj.weight": noisy,
        "model.layers.1.original_gate_weight": gate.bfloat16(),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    [edit] = open_checkpoint(tmp_path).report.past_edits
    assert edit.singular_values == () and edit.noise > 0


def test_a_scalar_original_is_a_placeholder(tmp_path, tiny_llama):
    save_file(beside(tiny_llama, edits=[2.0], original=torch.tensor(0.0)), tmp_path / "model.safetensors")
    report = open_checkpoint(tmp_path, tiny_llama).report
    assert report.past_edits[0].note == "placeholder" and report.past_edits[0].singular_values == ()
    assert any("past edits cannot be seen" in warning for warning in report.warnings)


def test_leading_singular_values_are_those_of_the_full_decomposition():
    matrix = torch.randn(211, 97) @ torch.diag(0.9 ** torch.arange(97.0))
    torch.testing.assert_close(
        leading_singular_values(matrix, 13), torch.linalg.svdvals(matrix)[:13], rtol=2e-3, atol=0
    )
    assert torch.equal(leading_singular_values(matrix), leading_singular_values(matrix))

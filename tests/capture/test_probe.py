"""The probe reads off the weights whether attention was withheld, and says so when it cannot."""

import json

import pytest
import torch
from conftest import specimen
from handmade import format_b
from safetensors.torch import save_file

from npt_viz import NptVizError, convert, open_checkpoint
from npt_viz.__main__ import main
from npt_viz.adapter import VARIANTS, LayerAdapter, random_adapter
from npt_viz.capture.probe import TEXT, attention_paths
from npt_viz.capture.running import forward_pass
from npt_viz.checkpoint import Checkpoint, save_checkpoint

PROSE = {"recipe": {}, "figures": {}, "licence": "CC0-1.0"}
OTHER_TEXT = "A short sentence that the probe does not read: 1, 2, 3, and a few more words for good measure."


def trained(model, variant: str, layer: int) -> LayerAdapter:
    """A small adapter that learned what its variant has to reconstruct, on a text that the probe does not read."""
    described = VARIANTS[variant]
    adapter = random_adapter(
        layer, described.semantics, described.targets, d_model=24, d_ffn=31, rank=23, components=2, std=0.1
    )
    ids = torch.tensor([model.tokenizer.encode(OTHER_TEXT)[: model.context_length]])
    seen = forward_pass(model, ids, record=[layer]).layers[layer]
    hidden, attention = seen.hidden[0], seen.attention[0]
    parts = model.parts(layer)
    with torch.no_grad():
        mlp_input, target = parts.mlp_norm(hidden), parts.mlp(parts.mlp_norm(hidden + attention))
        if described.semantics.attention == "withheld":
            target = target + attention
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        (adapter.mlp(parts.mlp, attention, mlp_input).output - target).square().mean().backward()
        optimiser.step()
    return adapter.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def adapters(tiny_llama):
    return {1: trained(tiny_llama, "N4", 1), 3: trained(tiny_llama, "N3", 3)}


def test_each_layer_is_read_as_what_it_was_trained_for(tiny_llama, adapters):
    """Whatever the file says: here it claims the opposite for both."""
    live = Checkpoint.from_adapters(adapters, tiny_llama, "live").with_semantics({1: "beside", 3: "withheld"})
    found = attention_paths(tiny_llama, live)
    assert {layer: evidence.path for layer, evidence in found.items()} == {1: "withheld", 3: "beside"}
    assert found[1].withheld > max(0, found[1].beside) and found[3].beside > max(0, found[3].withheld)


def test_a_probed_checkpoint_says_so_with_its_evidence(tmp_path, tiny_llama, adapters):
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    checkpoint = open_checkpoint(folder, tiny_llama, "probe")
    assert [row.variant for row in checkpoint.report.layers] == ["N4", "N3"]
    assert checkpoint.report.provenance == "probe"
    assert any("layer 3: the probe says attention is beside" in w for w in checkpoint.report.warnings)


def test_an_adapter_that_does_nothing_decides_nothing(tmp_path, tiny_llama):
    idle = specimen(tiny_llama, "N2", 2)
    with torch.no_grad():
        idle.modulations["gate"].W_b_up.zero_()
    checkpoint = open_checkpoint(
        save_checkpoint(tmp_path / "idle", {2: idle}, tiny_llama, **PROSE), tiny_llama, "probe"
    )
    assert checkpoint.report.layers[0].variant == "N2"
    assert checkpoint.report.provenance == "from the file"
    assert any("the probe says neither" in warning for warning in checkpoint.report.warnings)


def test_other_rules_have_nothing_to_probe(tmp_path, tiny_llama):
    save_file(format_b(2, ("A_proj", "B_proj")), tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path, tiny_llama, "probe")
    assert checkpoint.report.provenance == "inferred from key names"


def test_the_probe_needs_a_model(tmp_path):
    with pytest.raises(NptVizError, match="give the model"):
        open_checkpoint(tmp_path, None, "probe")


def test_the_command_line_converts_by_the_probe(tmp_path, tiny_llama, on_disk, adapters, capsys):
    """A file of format A says nothing of its attention path; the native one says what the weights were trained for."""
    native = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    convert(native, tmp_path / "a", to="A")
    arguments = ["convert", str(tmp_path / "a"), str(tmp_path / "probed"), "--semantics", "probe"]
    assert main(arguments) == 1
    assert "none was given; give the model (--model)" in capsys.readouterr().err
    assert not (tmp_path / "probed").exists()
    assert main([*arguments, "--model", on_disk.model]) == 0
    layers = json.loads((tmp_path / "probed" / "npt_config.json").read_text())["layers"]
    assert {layer: row["provenance"] for layer, row in layers.items()} == {"1": "probe", "3": "probe"}
    assert {layer: row["semantics"]["attention"] for layer, row in layers.items()} == {
        "1": "withheld",
        "3": "beside",
    }


def test_a_choice_that_is_refused_closes_the_file(tmp_path, tiny_llama, adapters, monkeypatch):
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    closed = []
    monkeypatch.setattr(Checkpoint, "close", lambda checkpoint: closed.append(checkpoint.name))
    with pytest.raises(NptVizError, match="'N9' is unknown"):
        open_checkpoint(folder, tiny_llama, "N9")
    assert closed == ["saved"]


def test_other_choices_pass_through(tmp_path, tiny_llama, adapters):
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    assert open_checkpoint(folder, tiny_llama).report.provenance == "from the file"
    assert open_checkpoint(folder, tiny_llama, "N2").report.provenance == "chosen by the user"


def test_the_probe_reads_enough_tokens():
    assert len(TEXT.split()) > 35

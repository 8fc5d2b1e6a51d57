"""The probe names what is wrong with an adapter that was spoilt on purpose, and says nothing of a good one."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import specimen
from handmade import format_b
from safetensors.torch import save_file

from npt_viz import NptVizError, convert, open_checkpoint
from npt_viz.__main__ import main
from npt_viz.adapter import VARIANTS, LayerAdapter, random_adapter
from npt_viz.capture.alternatives import trials
from npt_viz.capture.probe import Bench, probe, probed_layer, reading_of, seen_by_base
from npt_viz.capture.running import forward_pass
from npt_viz.checkpoint import Checkpoint, save_checkpoint
from npt_viz.results.sentences.probe import probe as in_words

PROSE = {"recipe": {}, "figures": {}, "licence": "CC0-1.0"}
OTHER_TEXT = "A short sentence that the probe does not read: 1, 2, 3, and a few more words for good measure."
TEXTS = [
    OTHER_TEXT,
    "Another one, which says that the lower fields were under water, and the sheep on the hill.",
]


def trained(
    model, variant: str, layer: int, *, positions: str = "deployed", steps: int = 120
) -> LayerAdapter:
    """A small adapter that learned what its variant has to reconstruct, on the text that it is probed with."""
    described = VARIANTS[variant]
    adapter = random_adapter(
        layer, described.semantics, described.targets, d_model=24, d_ffn=31, rank=23, components=2, std=0.1
    )
    seen = [
        forward_pass(model, ids(model, text), record=[layer], positions=positions).layers[layer]
        for text in TEXTS
    ]
    hidden, attention = (
        torch.cat([getattr(one, name)[0] for one in seen]) for name in ("hidden", "attention")
    )
    parts = model.parts(layer)
    with torch.no_grad():
        mlp_input, target = parts.mlp_norm(hidden), parts.mlp(parts.mlp_norm(hidden + attention))
        if described.semantics.attention == "withheld":
            target = target + attention
        nothing = (parts.mlp(mlp_input) - target).square().sum(-1)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        error = (adapter.mlp(parts.mlp, attention, mlp_input).output - target).square().sum(-1)
        (error / nothing).mean().backward()
        optimiser.step()
    return adapter.requires_grad_(False).eval()


def ids(model, text: str) -> torch.Tensor:
    return torch.tensor([model.tokenizer.encode(text)[: model.context_length]])


@pytest.fixture(scope="module")
def adapters(tiny_llama):
    return {1: trained(tiny_llama, "N4", 1), 3: trained(tiny_llama, "N3", 3)}


@pytest.fixture(scope="module")
def look(tiny_llama):
    """look(adapter): its probe."""
    seen = seen_by_base(tiny_llama, [ids(tiny_llama, text)[0].tolist() for text in TEXTS], [1, 3])
    return lambda adapter: probed_layer(tiny_llama, adapter, seen)


def spoilt(adapter: LayerAdapter, change) -> LayerAdapter:
    copied = copy.deepcopy(adapter)
    change(copied)
    return copied


def times(factor: float, *targets: str):
    def change(adapter):
        for target in targets or adapter.targets:
            adapter.modulation(target).W_b_up.mul_(factor)

    return change


def exchange(name: str):
    def change(adapter):
        gate, up = adapter.modulation("gate"), adapter.modulation("up")
        first = getattr(gate, name).clone()
        getattr(gate, name).copy_(getattr(up, name))
        getattr(up, name).copy_(first)

    return change


def test_a_good_adapter_fits_as_it_is(adapters, look):
    found = look(adapters[1])
    assert found.verdict == "as it is" and not found.fits
    assert found.as_it_is.recovered.low > 0.3


@pytest.mark.parametrize(
    ("change", "kind", "value"),
    [
        (times(-1.0), "sign", -1.0),
        (times(2.0), "size", 2**-1),
        (times(0.25), "size", 4.0),
        (times(10.0), "size", 0.1),
        (exchange("W_a_up"), "swapped", None),
        (exchange("W_b_up"), "swapped", None),
        (exchange("W_down"), "swapped", None),
    ],
)
def test_what_was_done_to_it_is_named(adapters, look, change, kind, value):
    found = look(spoilt(adapters[1], change))
    assert found.verdict == "something else"
    assert found.fits[0].kind == kind and found.fits[0].value == (pytest.approx(value) if value else None)
    whole = look(adapters[1]).as_it_is.recovered.value
    assert found.fits[0].recovered.value == pytest.approx(whole, abs=1e-4)
    assert f"{found.fits[0].name}" in str(in_words(found))


def test_the_sign_of_one_target_is_named(adapters, look):
    found = look(spoilt(adapters[1], times(-1.0, "up")))
    assert found.fits[0].name == "with the sign of what it adds to up turned"


def test_the_layer_that_it_was_trained_for_is_named(adapters, look):
    moved = LayerAdapter(3, adapters[1].semantics, dict(adapters[1].learned))
    found = look(moved)
    assert found.verdict == "something else" and found.fits[0].kind == "layer" and found.fits[0].value == 1


def test_another_attention_path_is_named_and_read(adapters, look):
    beside = LayerAdapter(1, replace(adapters[1].semantics, attention="beside"), dict(adapters[1].learned))
    found = look(beside)
    assert found.fits[0].kind == "reading" and reading_of(found, beside.semantics) == "withheld"


def test_shuffled_rows_fit_nothing(adapters, look):
    draw = torch.Generator().manual_seed(5)

    def shuffle(adapter):
        for modulation in adapter.learned.values():
            modulation.W_b_up.copy_(modulation.W_b_up[..., torch.randperm(31, generator=draw)])

    found = look(spoilt(adapters[1], shuffle))
    assert found.verdict == "nothing" and found.as_it_is.recovered.high < 0.05


def test_few_tokens_decide_nothing(tiny_llama, adapters):
    seen = seen_by_base(tiny_llama, [ids(tiny_llama, "few tokens")[0].tolist()[:9]], [1])
    found = probed_layer(tiny_llama, spoilt(adapters[1], times(1.4)), seen)
    assert found.verdict == "undecided" and not found.fits
    assert "cannot be told" in str(in_words(found))


def test_every_share_is_that_of_a_separate_run(tiny_llama, adapters):
    """Each way literally: its own pass, its own weights, float64 sums."""
    sequences = [ids(tiny_llama, text)[0].tolist() for text in TEXTS]
    seen = seen_by_base(tiny_llama, sequences, [1, 3])
    bench = Bench(tiny_llama, adapters[1], seen)
    tried = {trial.name: trial for trial in trials(adapters[1], tiny_llama.n_layers)}
    names = (
        "as it stands",
        "without RoPE",
        "with 2 times what it adds to up",
        "read with attention beside",
        "in layer 0",
    )
    for name in names:
        found = bench.shares(tried[name])
        texts = sequences[:1] if name == "in layer 0" else sequences
        literal = np.concatenate([literal_share(tiny_llama, adapters[1], ids_, name) for ids_ in texts])
        np.testing.assert_allclose(found[: len(literal)], literal, rtol=2e-3, atol=2e-4, err_msg=name)
        assert np.isnan(found[len(literal) :]).all()


def literal_share(model, adapter, token_ids, name) -> np.ndarray:
    layer = 0 if name == "in layer 0" else 1
    positions = "trained" if name == "without RoPE" else "deployed"
    record = forward_pass(model, torch.tensor([token_ids]), record=[layer], positions=positions).layers[layer]
    h, a = record.hidden[0].double(), record.attention[0].double()
    block = copy.deepcopy(model.parts(layer).layer).double()
    z, z_C = block.post_attention_layernorm(h), block.post_attention_layernorm(h + a)
    target = block.mlp(z_C) + (0 if "beside" in name else a)
    pre = {"gate": z @ block.mlp.gate_proj.weight.T, "up": z @ block.mlp.up_proj.weight.T}
    for wanted in ("gate", "up"):
        m = adapter.modulation(wanted)
        factor = 2 if name.endswith(f"to {wanted}") else 1
        for j in range(2):
            p = a @ m.W_down[j].double()
            scalar = ((p @ m.W_a_up[j].double()) * z).sum(-1, keepdim=True)
            pre[wanted] = pre[wanted] + factor * scalar * (p @ m.W_b_up[j].double())
    output = (torch.nn.functional.silu(pre["gate"]) * pre["up"]) @ block.mlp.down_proj.weight.T
    share = 1 - (output - target).square().sum(-1) / (block.mlp(z) - target).square().sum(-1)
    return share.numpy()


def test_each_layer_is_read_as_what_it_was_trained_for(tiny_llama, adapters):
    """Whatever the file says: here it claims the opposite for both."""
    live = Checkpoint.from_adapters(adapters, tiny_llama, "live").with_semantics({1: "beside", 3: "withheld"})
    found = probe(tiny_llama, live, TEXTS).layers
    assert {layer: reading_of(each, live.semantics(layer)) for layer, each in found.items()} == {
        1: "withheld",
        3: "beside",
    }


def test_a_probed_checkpoint_says_so_with_its_evidence(tmp_path, tiny_llama, adapters, monkeypatch):
    monkeypatch.setattr("npt_viz.capture.probe.bundled_texts", lambda part: TEXTS)
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    wrong = open_checkpoint(folder, tiny_llama, {1: "beside", 3: "withheld"})
    convert_to = save_checkpoint(
        tmp_path / "wrong", {layer: wrong.adapter(layer) for layer in wrong.layers}, tiny_llama, **PROSE
    )
    checkpoint = open_checkpoint(convert_to, tiny_llama, "probe")
    assert [row.variant for row in checkpoint.report.layers] == ["N4", "N3"]
    assert checkpoint.report.provenance == "probe"
    assert any("layer 3: the probe decided" in warning for warning in checkpoint.report.warnings)


def test_an_adapter_that_does_nothing_decides_nothing(tmp_path, tiny_llama):
    idle = specimen(tiny_llama, "N2", 2)
    with torch.no_grad():
        idle.modulations["gate"].W_b_up.zero_()
    checkpoint = open_checkpoint(
        save_checkpoint(tmp_path / "idle", {2: idle}, tiny_llama, **PROSE), tiny_llama, "probe"
    )
    assert checkpoint.report.layers[0].variant == "N2"
    assert checkpoint.report.provenance == "from the file"
    assert any("undecided by the probe" in warning for warning in checkpoint.report.warnings)


def test_a_rule_with_one_reading_has_nothing_to_probe(tmp_path, tiny_llama):
    save_file(format_b(2, ("A_proj", "B_proj")), tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path, tiny_llama, "probe")
    assert checkpoint.report.provenance == "inferred from key names"


def test_the_probe_needs_a_model(tmp_path):
    with pytest.raises(NptVizError, match="give the model"):
        open_checkpoint(tmp_path, None, "probe")


def test_the_command_line_converts_by_the_probe(tmp_path, tiny_llama, on_disk, adapters, capsys, monkeypatch):
    """A file of format A says nothing of its attention path; the native one says what the weights were trained for."""
    monkeypatch.setattr("npt_viz.capture.probe.bundled_texts", lambda part: TEXTS)
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

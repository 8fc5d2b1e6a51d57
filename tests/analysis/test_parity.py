"""The parity badge: green where the model computes what it claims, red for each way it may not."""

import pytest
import torch
from conftest import specimen, tiny_model
from literal import mlp_of, mlp_output

from npt_viz.adapter import VARIANTS, RankOneSum
from npt_viz.analysis.parity import dense_mlp, parity
from npt_viz.capture import running
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.parity import Check

PROMPT = "cat the cat"


def two_layers(model, variant="N5"):
    adapters = {layer: specimen(model, variant, layer, seed=layer) for layer in (1, 3)}
    return Checkpoint.from_adapters(adapters, model, "specimen")


def failures(found):
    return {check.name for check in found.failed}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_passes_every_check(variant, dtype):
    model = tiny_model(dtype=dtype)
    found = parity(model, two_layers(model, variant), PROMPT)
    assert found.passed, found.failed
    assert [check.name for check in found.checks] == [
        "NPT off = base",
        "no hook is left",
        "base lane = base",
        "adapter = dense ΔW, layer 1",
        "adapter = dense ΔW, layer 3",
        *(["cached = uncached, logits", "cached = uncached, tokens"] if variant != "S0-pooled" else []),
    ]
    assert found.token == 10
    assert (found.layers, found.written_out) == ((1, 3), (1, 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_written_out_mlp_is_the_literal_one(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant)
    attention, x = torch.randn(2, tiny_llama.d_model)
    literal = mlp_output(mlp_of(tiny_llama, 2), x.double(), variant, adapter, attention.double())
    found = dense_mlp(tiny_llama.parts(2), adapter.of_text(attention[None]), attention, x)
    assert (found - literal).norm() < 1e-5 * literal.norm()


def test_a_wrong_factored_form_is_found(tiny_llama, monkeypatch):
    right = RankOneSum.delta
    monkeypatch.setattr(RankOneSum, "delta", lambda self, p, s: 1.001 * right(self, p, s))
    found = parity(tiny_llama, two_layers(tiny_llama), PROMPT)
    assert failures(found) == {"adapter = dense ΔW, layer 1", "adapter = dense ΔW, layer 3"}
    assert not found.passed


def sabotaged(monkeypatch, sabotage):
    """Every forward pass of the parity goes through `sabotage(right, model, token_ids, lanes, **settings)`."""
    right = running.forward_pass
    monkeypatch.setattr(
        "npt_viz.analysis.parity.forward_pass", lambda *args, **settings: sabotage(right, *args, **settings)
    )


def test_a_hook_that_stays_is_found(monkeypatch):
    def leaves_a_hook(right, model, *args, **settings):
        model.parts(0).mlp.register_forward_hook(lambda module, args, output: None)
        return right(model, *args, **settings)

    model = tiny_model()
    sabotaged(monkeypatch, leaves_a_hook)
    assert failures(parity(model, two_layers(model), PROMPT)) == {"no hook is left"}


def test_an_edited_base_weight_is_found(monkeypatch):
    def edits_a_weight(right, model, *args, **settings):
        found = right(model, *args, **settings)
        model.parts(0).gate.weight[0, 0] += 1e-3
        return found

    model = tiny_model()
    sabotaged(monkeypatch, edits_a_weight)
    assert "NPT off = base" in failures(parity(model, two_layers(model), PROMPT))


def test_a_lane_that_leaks_into_the_base_is_found(tiny_llama, monkeypatch):
    def leaks(right, model, token_ids, lanes=({},), **settings):
        return right(model, token_ids, [lanes[-1]] * len(lanes), **settings)

    sabotaged(monkeypatch, leaks)
    assert failures(parity(tiny_llama, two_layers(tiny_llama), PROMPT)) == {"base lane = base"}


def test_an_update_that_looks_at_other_tokens_breaks_the_cache_and_is_found(tiny_llama, monkeypatch):
    right = RankOneSum.bottleneck

    def mean_over_tokens(self, attention):
        return right(self, attention.mean(dim=-2, keepdim=True).expand_as(attention))

    monkeypatch.setattr(RankOneSum, "bottleneck", mean_over_tokens)
    assert "cached = uncached, logits" in failures(parity(tiny_llama, two_layers(tiny_llama), PROMPT))


def test_layers_and_token_can_be_chosen(tiny_llama):
    found = parity(tiny_llama, two_layers(tiny_llama), PROMPT, layers=[3], token=-2)
    assert (found.layers, found.token) == ((3,), 9)
    assert parity(tiny_llama, two_layers(tiny_llama), PROMPT, n_written_out=1).written_out == (1,)
    with pytest.raises(NptVizError, match="token 11 does not exist: the prompt has 11 tokens"):
        parity(tiny_llama, two_layers(tiny_llama), PROMPT, token=11)
    with pytest.raises(NptVizError, match="layer 2 is no NPT layer of specimen"):
        parity(tiny_llama, two_layers(tiny_llama), PROMPT, layers=[2])


def test_a_parity_leaves_the_model_as_it_was():
    model = tiny_model()
    before = {name: weight.clone() for name, weight in model.hf.state_dict().items()}
    parity(model, two_layers(model), PROMPT)
    for name, weight in model.hf.state_dict().items():
        assert torch.equal(weight, before[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())


def test_a_check_without_a_number_has_failed():
    settings = dict(name="x", unit="", meaning="", tolerance=0.1)
    assert Check(measured=0.1, **settings).passed
    assert not Check(measured=0.11, **settings).passed
    assert not Check(measured=float("nan"), **settings).passed

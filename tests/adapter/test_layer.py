"""One layer's adapter inside its MLP, against the MLP with that token's ΔW written into the weights."""

import pytest
import torch
from conftest import specimen, tiny_model
from literal import mlp_of, mlp_output

from npt_viz.adapter import (
    VARIANTS,
    Additive,
    LowRankTanh,
    RankOneSum,
    Semantics,
    mlp_trace,
    random_adapter,
)

LAYER, TOKENS = 2, 5
EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}

each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_count = pytest.mark.parametrize("components", [1, 3])


def a_and_x(model, dtype=torch.float32):
    """An attention output and an MLP input, (token, model) each."""
    return (torch.randn(TOKENS, model.d_model, dtype=dtype) for _ in range(2))


@pytest.fixture(scope="module", params=EXACT, ids=str)
def model(request):
    return tiny_model(dtype=request.param)


@each_variant
@each_count
def test_the_modulated_mlp_equals_the_mlp_with_edited_weights(model, variant, components):
    adapter = specimen(model, variant, LAYER, components=components).to(model.dtype)
    attention, x = a_and_x(model, model.dtype)
    found = adapter.of_text(attention).mlp(model.parts(LAYER).mlp, attention, x).output.double()
    for t in range(TOKENS):
        a, y = (attention if variant == "S0-pooled" else attention[t]).double(), x[t].double()
        literal = mlp_output(mlp_of(model, LAYER), y, variant, adapter, a)
        assert (found[t] - literal).norm() < EXACT[model.dtype] * literal.norm()
        # A specimen too weak to matter would pass anything.
        assert (literal - mlp_output(mlp_of(model, LAYER), y)).norm() > 0.01 * literal.norm()


def test_without_an_adapter_the_trace_is_the_mlp_itself(tiny_llama):
    _, x = a_and_x(tiny_llama)
    mlp = tiny_llama.parts(LAYER).mlp
    assert torch.equal(mlp_trace(mlp, x).output, mlp(x))


@each_variant
def test_a_trace_that_is_known_already_saves_work_and_changes_nothing(tiny_llama, variant):
    attention, x = a_and_x(tiny_llama)
    adapter = specimen(tiny_llama, variant, LAYER).of_text(attention)
    mlp = tiny_llama.parts(LAYER).mlp
    for found, expected in zip(
        adapter.mlp(mlp, attention, x, mlp_trace(mlp, x)), adapter.mlp(mlp, attention, x), strict=True
    ):
        assert torch.equal(found, expected)


def test_the_trace_holds_what_goes_on_inside(tiny_llama):
    adapter = specimen(tiny_llama, "N5", LAYER)
    attention, x = a_and_x(tiny_llama)
    mlp = tiny_llama.parts(LAYER).mlp
    trace = adapter.mlp(mlp, attention, x)
    torch.testing.assert_close(
        trace.gate, mlp.gate_proj(x) + adapter.change("gate", attention, x, mlp.gate_proj(x))
    )
    torch.testing.assert_close(trace.up, mlp.up_proj(x) + adapter.change("up", attention, x, mlp.up_proj(x)))
    torch.testing.assert_close(trace.intermediate, trace.gate * torch.sigmoid(trace.gate) * trace.up)


@each_variant
def test_a_bf16_base_gets_a_float32_change_rounded_once(variant):
    half = tiny_model(dtype=torch.bfloat16)
    attention, x = (y.bfloat16() for y in a_and_x(half))
    adapter = specimen(half, variant, LAYER).of_text(attention)
    for target in adapter.targets:
        inp = x if target != "down" else torch.randn(TOKENS, half.d_ffn).bfloat16()
        own = torch.randn(TOKENS, half.d_model if target == "down" else half.d_ffn).bfloat16()
        in_float32 = adapter.modulations[target].change(attention.float(), inp.float(), own.float())
        change = adapter.change(target, attention, inp, own)
        assert change.dtype == torch.bfloat16
        assert torch.equal(change, in_float32.bfloat16())


@each_variant
def test_an_adapter_knows_its_name_and_keeps_float32(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant, LAYER)
    assert adapter.variant == variant
    assert adapter.attention == VARIANTS[variant].semantics.attention
    assert adapter.targets == VARIANTS[variant].targets
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}


def test_targets_come_in_the_order_of_the_mlp(tiny_llama):
    triple = specimen(tiny_llama, "N5")
    shuffled = type(triple)(2, triple.semantics, {t: triple.modulations[t] for t in ("down", "gate", "up")})
    assert shuffled.targets == ("gate", "up", "down")


def test_a_random_adapter_depends_on_its_seed_alone():
    sizes = dict(d_model=13, d_ffn=29, rank=5)
    first, again, other = (
        random_adapter(0, Semantics(), ("gate",), **sizes, seed=seed).state_dict() for seed in (3, 3, 4)
    )
    for name in first:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_known_projections_are_used_and_not_computed_again(tiny_llama):
    adapter, mlp = specimen(tiny_llama, "N5", LAYER), tiny_llama.parts(LAYER).mlp
    attention, x = a_and_x(tiny_llama)
    plain = mlp_trace(mlp, x)
    calls = []
    hooks = [part.register_forward_hook(lambda *_: calls.append(1)) for part in (mlp.gate_proj, mlp.up_proj)]
    try:
        known = adapter.mlp(mlp, attention, x, plain)
        assert not calls
        computed = adapter.mlp(mlp, attention, x)
        assert len(calls) == 2
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(known.output, computed.output)


def test_a_random_adapter_has_the_shape_and_the_spread_asked_for():
    def made(**settings):
        return random_adapter(4, Semantics(), ("gate",), d_model=61, d_ffn=97, rank=13, **settings)

    gate = made().modulations["gate"]
    assert made().layer == 4 and gate.components == 1 and gate.scale == 1.0
    weights = torch.cat([weight.flatten() for weight in gate.parameters()])
    assert weights.std().item() == pytest.approx(0.1, rel=0.1) and abs(weights.mean().item()) < 0.01
    wide = torch.cat([weight.flatten() for weight in made(std=3.0).parameters()])
    assert wide.std().item() == pytest.approx(3.0, rel=0.1)
    same, other = made(seed=0).modulations["gate"], made(seed=1).modulations["gate"]
    assert torch.equal(same.W_down, gate.W_down) and not torch.equal(other.W_down, gate.W_down)


def test_without_a_scale_a_modulation_is_not_scaled():
    a, x = torch.randn(3, 5), torch.randn(3, 5)
    W_down, A, B = torch.randn(5, 2), torch.randn(2, 5), torch.randn(2, 7)
    by_hand = ((a @ W_down @ A) * x).sum(-1, keepdim=True) * (a @ W_down @ B)
    torch.testing.assert_close(RankOneSum(W_down[None], A[None], B[None]).change(a, x), by_hand)
    torch.testing.assert_close(Additive(W_down, B).change(a, x, torch.zeros(3, 7)), a @ W_down @ B)
    tanh = LowRankTanh(W_down, B)
    torch.testing.assert_close(tanh.change(a, x), ((x @ W_down) * torch.tanh(a @ W_down)) @ B)
    assert Additive(W_down, B).components == 0

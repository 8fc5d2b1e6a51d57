"""One batch of one layer against the running model, and what is and is not run for it."""

import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.adapter import VARIANTS
from npt_viz.capture.running import forward_pass
from npt_viz.training.capturing import captured
from npt_viz.training.student import student

LAYER = 2


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"S0-pooled"}))
def test_the_student_writes_what_the_running_npt_model_writes(tiny_llama, variant):
    adapter, ids = specimen(tiny_llama, variant, LAYER), torch.randint(2, 258, (13,))
    ran = forward_pass(tiny_llama, ids[None], [{LAYER: adapter}], record=[LAYER]).layers[LAYER]
    seen = student(tiny_llama, adapter, captured(tiny_llama, [ids], [LAYER]).layers[LAYER])
    torch.testing.assert_close(seen.output, ran.mlp_output[0])


@pytest.mark.parametrize("variant", ["N1", "N2", "S0", "S0-residual"])
def test_with_the_target_in_its_place_the_layer_is_the_base_models(tiny_llama, variant):
    """h + target (+ a) is the stream that the base model's layer leaves."""
    adapter, ids = specimen(tiny_llama, variant, LAYER), torch.randint(2, 258, (13,))
    seen = student(tiny_llama, adapter, captured(tiny_llama, [ids], [LAYER]).layers[LAYER])
    stream = seen.hidden + seen.target + (seen.attention if variant in ("N2", "S0-residual") else 0)
    above = forward_pass(tiny_llama, ids[None], record=[LAYER + 1]).layers[LAYER + 1].hidden[0]
    torch.testing.assert_close(stream, above)


def test_change_is_what_the_modulation_adds_to_each_projection(tiny_llama):
    adapter, ids = specimen(tiny_llama, "N5", LAYER), torch.randint(2, 258, (13,))
    seen = student(tiny_llama, adapter, captured(tiny_llama, [ids], [LAYER]).layers[LAYER])
    parts = tiny_llama.parts(LAYER)
    torch.testing.assert_close(seen.change("gate"), seen.trace.gate - parts.gate(seen.mlp_input))
    torch.testing.assert_close(seen.change("up"), seen.trace.up - parts.up(seen.mlp_input))
    torch.testing.assert_close(seen.change("down"), seen.output - parts.down(seen.trace.intermediate))


def test_attention_goes_through_the_weights_of_gate_and_up(tiny_llama):
    adapter, ids = specimen(tiny_llama, "N5", LAYER), torch.randint(2, 258, (13,))
    seen = student(tiny_llama, adapter, captured(tiny_llama, [ids], [LAYER]).layers[LAYER])
    parts = tiny_llama.parts(LAYER)
    torch.testing.assert_close(seen.attention_through("gate"), seen.attention @ parts.gate.weight.T)
    torch.testing.assert_close(seen.attention_through("up"), seen.attention @ parts.up.weight.T)
    assert seen.attention_through("down") is seen.attention


def test_where_keeps_the_tokens_of_a_mask(tiny_llama):
    adapter, ids = specimen(tiny_llama, "N5", LAYER), torch.randint(2, 258, (13,))
    tokens = captured(tiny_llama, [ids], [LAYER]).layers[LAYER]
    mask = torch.arange(13) % 3 == 1
    some, whole = (
        student(tiny_llama, adapter, tokens).where(mask),
        student(tiny_llama, adapter, tokens.rows(mask.nonzero()[:, 0])),
    )
    for name in ("hidden", "attention", "mlp_input", "mlp_with_attention", "target", "unmodulated", "output"):
        torch.testing.assert_close(getattr(some, name), getattr(whole, name))
    torch.testing.assert_close(some.trace.gate, whole.trace.gate)


@pytest.mark.parametrize("variant", ["N1", "N5", "S0", "T1"])
def test_a_student_is_the_same_from_captured_projections(tiny_llama, variant):
    adapter, ids = specimen(tiny_llama, variant, LAYER), [torch.randint(2, 258, (13,))]
    kept = captured(tiny_llama, ids, [LAYER], projections=True).layers[LAYER]
    assert kept.gate is not None
    known, computed = (
        student(tiny_llama, adapter, tokens)
        for tokens in (kept, captured(tiny_llama, ids, [LAYER]).layers[LAYER])
    )
    torch.testing.assert_close(known.trace, computed.trace)
    assert known.output.abs().max() > 0.1


def test_a_student_runs_nothing_but_its_layers_norm_and_mlp():
    model = tiny_model()
    adapter = specimen(model, "N5", LAYER)
    tokens = captured(model, [torch.randint(2, 258, (13,))], [LAYER]).layers[LAYER]
    called = []
    for name, module in model.hf.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    student(model, adapter, tokens)
    own = f"model.layers.{LAYER}"
    assert set(called) == {
        f"{own}.post_attention_layernorm",
        *(f"{own}.mlp.{part}_proj" for part in ("gate", "up", "down")),
    } | {name for name in called if name.endswith("act_fn")}


def test_only_the_adapter_has_gradients(tiny_llama):
    adapter = specimen(tiny_llama, "N5", LAYER).requires_grad_(True)
    tokens = captured(tiny_llama, [torch.randint(2, 258, (13,))], [LAYER]).layers[LAYER]
    student(tiny_llama, adapter, tokens).output.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(parameter.grad is None for parameter in tiny_llama.hf.parameters())

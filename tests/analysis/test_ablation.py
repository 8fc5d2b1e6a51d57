"""Ablations against adapters whose weights were edited by hand, and against loops over dense vectors."""

import copy

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import LiteralLlama, mlp_of, vectors

from npt_viz.adapter import VARIANTS
from npt_viz.analysis.ablation import ablation_table, versions
from npt_viz.capture.layer_trace import attention_sinks, local_trace
from npt_viz.capture.running import NoAttention, forward_pass

PROMPT = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]
LAYER = 2


def versions_of(model, adapter, is_sink=None):
    seen = local_trace(model, adapter, PROMPT)
    is_sink = attention_sinks(seen.hidden) if is_sink is None else is_sink
    return seen, {v.name: v.adapter for v in versions(adapter, model.parts(LAYER).mlp, seen, is_sink)}


def final(model, change):
    return forward_pass(model, torch.tensor([PROMPT]), [{LAYER: change}]).final


def output(model, adapter, seen):
    return adapter.mlp(model.parts(LAYER).mlp, seen.attention, seen.mlp_input).output


def edited(adapter, name, factor):
    """The adapter with one factor matrix of every target scaled in place."""
    twin = copy.deepcopy(adapter)
    with torch.no_grad():
        for modulation in twin.modulations.values():
            getattr(modulation, name).mul_(factor)
    return twin


def test_amplifying_is_scaling_w_b_up(tiny_llama):
    adapter = specimen(tiny_llama, "N4")
    _, found = versions_of(tiny_llama, adapter)
    for factor in (0.5, 2.0, 5.0):
        expected = final(tiny_llama, edited(adapter, "W_b_up", factor))
        torch.testing.assert_close(final(tiny_llama, found[f"×{factor:g}"]), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_amplified_by_zero_is_no_modulation_in_every_variant(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant)
    _, found = versions_of(tiny_llama, adapter)
    torch.testing.assert_close(
        final(tiny_llama, found["×0"]), final(tiny_llama, NoAttention(attention=adapter.attention))
    )


def test_an_n_adapter_cannot_tell_a_from_minus_a_and_doubling_a_is_amplifying_by_four(tiny_llama):
    adapter = specimen(tiny_llama, "N4")
    seen, found = versions_of(tiny_llama, adapter)
    torch.testing.assert_close(
        output(tiny_llama, found["a negated"], seen), output(tiny_llama, adapter, seen)
    )
    torch.testing.assert_close(
        output(tiny_llama, found["a doubled"], seen), output(tiny_llama, edited(adapter, "W_b_up", 4), seen)
    )


def test_an_additive_adapter_fed_with_minus_a_adds_the_opposite(tiny_llama):
    adapter = specimen(tiny_llama, "S0")
    seen, found = versions_of(tiny_llama, adapter)
    torch.testing.assert_close(
        output(tiny_llama, found["a negated"], seen), output(tiny_llama, edited(adapter, "W_add", -1), seen)
    )
    assert "mean scalar" not in found and "mean direction" not in found


def changes(adapter, seen):
    """(token, component) scalars and (token, component, ffn) directions v_b of the gate, from dense vectors."""
    modulation = adapter.modulations["gate"]
    s, v_b = [], []
    for a, z in zip(seen.attention, seen.mlp_input.double(), strict=True):
        pairs = [vectors(modulation, a, j) for j in range(modulation.components)]
        s.append([torch.dot(left, z).item() for left, _ in pairs])
        v_b.append(torch.stack([right for _, right in pairs]))
    return torch.tensor(s, dtype=torch.float64), torch.stack(v_b)


def gate_output(model, seen, delta):
    mlp = mlp_of(model, LAYER)
    z = seen.mlp_input.double()
    gate = z @ mlp.gate.T + delta
    return (torch.nn.functional.silu(gate) * (z @ mlp.up.T)) @ mlp.down.T


@pytest.mark.parametrize("sinks", [[], [0], [3, 7]])
def test_a_constant_scalar_is_the_mean_of_the_tokens_that_are_no_sinks(tiny_llama, sinks):
    adapter = specimen(tiny_llama, "N1")
    is_sink = torch.tensor([i in sinks for i in range(len(PROMPT))])
    seen, found = versions_of(tiny_llama, adapter, is_sink)
    s, v_b = changes(adapter, seen)
    constant = torch.where(is_sink[:, None], s, s[~is_sink].mean(0))
    expected = gate_output(tiny_llama, seen, (constant[..., None] * v_b).sum(1))
    torch.testing.assert_close(
        output(tiny_llama, found["mean scalar"], seen).double(), expected, atol=1e-4, rtol=1e-4
    )


def test_one_direction_keeps_the_size_of_every_component_at_every_token(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    is_sink = torch.tensor([True] + [False] * 10)
    seen, found = versions_of(tiny_llama, adapter, is_sink)
    s, v_b = changes(adapter, seen)
    change = s[..., None] * v_b
    size = change.norm(dim=-1, keepdim=True)
    direction = (change / size)[1:].mean(0)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    pointed = torch.where(is_sink[:, None, None], change, size * direction)
    torch.testing.assert_close(
        output(tiny_llama, found["mean direction"], seen).double(),
        gate_output(tiny_llama, seen, pointed.sum(1)),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_mean_scalar_of_a_low_rank_tanh_adapter_is_taken_component_by_component(tiny_llama):
    adapter = specimen(tiny_llama, "T1")
    seen, found = versions_of(tiny_llama, adapter)
    weights = adapter.modulations["gate"]
    A, B = weights.A.double(), weights.B.double()
    s = torch.tanh(seen.attention.double() @ A) * (seen.mlp_input.double() @ A)
    expected = gate_output(tiny_llama, seen, (s.mean(0) @ B).expand(len(PROMPT), -1))
    torch.testing.assert_close(
        output(tiny_llama, found["mean scalar"], seen).double(), expected, atol=1e-4, rtol=1e-4
    )
    assert "mean direction" not in found


def test_the_down_target_reads_the_ablated_intermediate_and_means_of_the_learned_one(tiny_llama):
    adapter = specimen(tiny_llama, "N5", components=1)
    seen, found = versions_of(tiny_llama, adapter)
    intermediate = adapter.mlp(tiny_llama.parts(LAYER).mlp, seen.attention, seen.mlp_input).intermediate
    down = adapter.modulations["down"]
    v_a = seen.attention @ down.W_down[0] @ down.W_a_up[0]
    expected = (v_a * intermediate).sum(-1).mean()
    torch.testing.assert_close(found["mean scalar"].modulations["down"].scalars[0], expected)


def test_the_table_holds_local_error_and_the_kl_of_the_layer_alone(tiny_llama):
    adapter = specimen(tiny_llama, "N4")
    table = ablation_table(tiny_llama, adapter, PROMPT)
    literal = LiteralLlama(tiny_llama)
    ids = torch.tensor(PROMPT)
    base, _, base_logits = literal.run(ids)
    npt, _, npt_logits = literal.run(ids, {LAYER: ("N4", edited(adapter, "W_b_up", 2.0))})
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=base_logits),
        torch.distributions.Categorical(logits=npt_logits),
    )
    np.testing.assert_allclose(table.row("×2").kl, kl, rtol=1e-3, atol=1e-6)
    target = base[LAYER].mlp_output + base[LAYER].attention
    error = (npt[LAYER].mlp_output - target).norm(dim=1) / target.norm(dim=1)
    np.testing.assert_allclose(table.row("×2").relative_error, error, rtol=1e-4)
    np.testing.assert_allclose(table.row("×0").recovered, 0, atol=1e-5)
    assert table.rows[0].name == "as it is" and table.notes == ()


def test_a_long_prompt_is_cut_which_changes_nothing_before_the_cut(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    short = ablation_table(tiny_llama, adapter, PROMPT[:6])
    cut = ablation_table(tiny_llama, adapter, PROMPT, max_tokens=6)
    assert cut.notes == ("the first 6 of 11 tokens",)
    np.testing.assert_array_equal(cut.row("mean scalar").kl, short.row("mean scalar").kl)


def test_without_logits_nothing_above_the_layer_runs(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    calls = []
    hook = tiny_llama.parts(LAYER + 1).layer.register_forward_hook(lambda *args: calls.append(1))
    try:
        table = ablation_table(tiny_llama, adapter, PROMPT, logits=False)
    finally:
        hook.remove()
    assert not calls and all(row.kl is None for row in table.rows)

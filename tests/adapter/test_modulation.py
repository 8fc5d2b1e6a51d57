"""Factored modulations against the ΔW of one token written out."""

import pytest
import torch
from literal import rank_one_update, tanh_update, vectors
from torch.utils._python_dispatch import TorchDispatchMode

from npt_viz.adapter import Additive, LowRankTanh, RankOneSum, Semantics, random_adapter

D_MODEL, D_FFN, RANK, TOKENS = 13, 29, 5, 7

EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Largest relative error."""

each_precision = pytest.mark.parametrize("dtype", EXACT)
each_target = pytest.mark.parametrize("target", ["gate", "down"])
each_count = pytest.mark.parametrize("components", [1, 3])
each_scale = pytest.mark.parametrize("scale", [1.0, -0.1])


def rank_one(target="gate", components=3, scale=1.0, dtype=torch.float64) -> RankOneSum:
    semantics = Semantics(scale=scale)
    adapter = random_adapter(
        0, semantics, (target,), d_model=D_MODEL, d_ffn=D_FFN, rank=RANK, components=components, std=0.3
    )
    return adapter.modulations[target].to(dtype).requires_grad_(False)


def tanh_rule(scale=1.0, dtype=torch.float64) -> LowRankTanh:
    semantics = Semantics(rule="low_rank_tanh", scale=scale)
    adapter = random_adapter(0, semantics, ("gate",), d_model=D_MODEL, d_ffn=D_FFN, rank=RANK, std=0.3)
    return adapter.modulations["gate"].to(dtype).requires_grad_(False)


def inputs(target="gate", dtype=torch.float64):
    """(attention, x): (token, model) and (token, inp)."""
    attention = torch.randn(TOKENS, D_MODEL, dtype=torch.float64)
    x = torch.randn(TOKENS, D_FFN if target == "down" else D_MODEL, dtype=torch.float64)
    return attention.to(dtype), x.to(dtype)


def relative_error(found, expected):
    return (found.double() - expected).norm() / expected.norm()


@each_precision
@each_target
@each_count
@each_scale
def test_a_sum_of_rank_one_updates_equals_its_dense_update(dtype, target, components, scale):
    modulation = rank_one(target, components, scale, dtype)
    attention, x = inputs(target, dtype)
    dense = [rank_one_update(modulation, a, scale) @ y.double() for a, y in zip(attention, x, strict=True)]
    assert relative_error(modulation.change(attention, x), torch.stack(dense)) < EXACT[dtype]


@each_precision
@each_scale
def test_the_tanh_rule_equals_its_dense_update(dtype, scale):
    modulation = tanh_rule(scale, dtype)
    attention, x = inputs(dtype=dtype)
    dense = [tanh_update(modulation, a, scale) @ y.double() for a, y in zip(attention, x, strict=True)]
    assert relative_error(modulation.change(attention, x), torch.stack(dense)) < EXACT[dtype]


@each_target
@each_count
def test_scalars_and_vectors_are_those_of_the_formulas(target, components):
    modulation = rank_one(target, components, scale=-0.1)
    attention, x = inputs(target)
    scalars = modulation.scalars(modulation.bottleneck(attention), x)
    v_a, v_b = modulation.v_a(attention), modulation.v_b(attention)
    assert scalars.shape == (TOKENS, components)
    for t in range(TOKENS):
        for j in range(components):
            expected_a, expected_b = vectors(modulation, attention[t], j)
            torch.testing.assert_close(v_a[t, j], expected_a)
            torch.testing.assert_close(v_b[t, j], -0.1 * expected_b)
            torch.testing.assert_close(scalars[t, j], expected_a @ x[t])


@each_target
@each_count
@each_scale
def test_norms_are_those_of_the_dense_update(target, components, scale):
    modulation = rank_one(target, components, scale)
    attention, _ = inputs(target)
    norm_a, norm_b = modulation.norms(attention)
    for t in range(TOKENS):
        dense = rank_one_update(modulation, attention[t], scale)
        torch.testing.assert_close(modulation.update_norm(attention)[t], torch.linalg.matrix_norm(dense))
        for j in range(components):
            v_a, v_b = vectors(modulation, attention[t], j)
            torch.testing.assert_close(norm_a[t, j], v_a.norm())
            torch.testing.assert_close(norm_b[t, j], abs(scale) * v_b.norm())


@each_scale
def test_the_tanh_rule_has_one_component_a_column_and_their_sum_is_the_update(scale):
    modulation = tanh_rule(scale)
    attention, _ = inputs()
    v_a, v_b = modulation.v_a(attention), modulation.v_b(attention)
    assert v_a.shape == (TOKENS, RANK, D_MODEL)
    assert v_b.shape == (TOKENS, RANK, D_FFN)
    norm_a, norm_b = modulation.norms(attention)
    for t in range(TOKENS):
        dense = tanh_update(modulation, attention[t], scale)
        torch.testing.assert_close(v_b[t].T @ v_a[t], dense)
        torch.testing.assert_close(modulation.update_norm(attention)[t], torch.linalg.matrix_norm(dense))
        torch.testing.assert_close(norm_a[t], v_a[t].norm(dim=1))
        torch.testing.assert_close(norm_b[t], v_b[t].norm(dim=1))


def test_components_that_cancel_have_a_norm_near_zero_and_no_nan():
    """Rounding pushes the square of the norm below zero for some of the tokens."""
    W_down, W_a_up = torch.randn(1, D_MODEL, RANK), torch.randn(1, RANK, D_MODEL)
    first, second = torch.randn(2, 1, RANK, D_FFN)
    modulation = RankOneSum(
        W_down.repeat(3, 1, 1), W_a_up.repeat(3, 1, 1), torch.cat([first, second, -first - second])
    )
    attention = torch.randn(101, D_MODEL)
    norm_a, norm_b = modulation.norms(attention)
    assert (modulation.update_norm(attention) < 0.01 * norm_a[:, 0] * norm_b[:, 0]).all()


def test_a_rank_one_sum_is_even_and_quadratic_in_attention():
    modulation = rank_one()
    attention, x = inputs()
    change = modulation.change(attention, x)
    torch.testing.assert_close(modulation.change(-attention, x), change)
    torch.testing.assert_close(modulation.change(2 * attention, x), 4 * change)


def test_leading_axes_are_a_batch():
    modulation = rank_one()
    attention, x = torch.randn(2, 3, D_MODEL).double(), torch.randn(2, 3, D_MODEL).double()
    change = modulation.change(attention, x)
    for i in range(2):
        torch.testing.assert_close(change[i], modulation.change(attention[i], x[i]))


@pytest.mark.parametrize(
    "factor, recipe",
    [
        ("one_plus_sigmoid", lambda x: 1 + 1 / (1 + torch.exp(-x))),
        ("one_plus_tanh", lambda x: 1 + torch.tanh(x)),
        ("half_sigmoid", lambda x: 0.5 / (1 + torch.exp(-x)) + 0.5),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_multiplicative_rule_scales_the_gate_and_adds(factor, recipe, scale):
    W_down, W_add, W_mult = torch.randn(D_MODEL, RANK), torch.randn(RANK, D_FFN), torch.randn(RANK, D_FFN)
    modulation = Additive(W_down, W_add, W_mult, factor=factor, scale=scale)
    attention, x, gate = (
        torch.randn(TOKENS, D_MODEL),
        torch.randn(TOKENS, D_MODEL),
        torch.randn(TOKENS, D_FFN),
    )
    expected = gate * recipe(attention @ W_down @ W_mult) + scale * (attention @ W_down @ W_add)
    torch.testing.assert_close(gate + modulation.change(attention, x, gate), expected)


def test_the_additive_rule_only_adds():
    W_down, W_add = torch.randn(D_MODEL, RANK), torch.randn(RANK, D_FFN)
    attention, x, gate = (
        torch.randn(TOKENS, D_MODEL),
        torch.randn(TOKENS, D_MODEL),
        torch.randn(TOKENS, D_FFN),
    )
    modulation = Additive(W_down, W_add, scale=0.5)
    torch.testing.assert_close(modulation.change(attention, x, gate), 0.5 * attention @ W_down @ W_add)


def test_gradients_reach_every_weight():
    modulation = rank_one(components=2)
    attention, x = inputs()
    modulation.requires_grad_(True)
    modulation.change(attention, x).square().sum().backward()
    for name, parameter in modulation.named_parameters():
        # Central difference along one random direction.
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            losses = []
            for sign in (1, -1):
                parameter.add_(sign * step * direction)
                losses.append(modulation.change(attention, x).square().sum())
                parameter.sub_(sign * step * direction)
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close((parameter.grad * direction).sum(), slope, rtol=1e-5, atol=1e-6, msg=name)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


@pytest.mark.parametrize("quantity", ["change", "norms", "update_norm"])
def test_no_tensor_of_tokens_by_components_by_ffn_is_ever_made(quantity):
    n_tokens, components = 211, 3
    modulation = rank_one(components=components)
    attention, x = torch.randn(n_tokens, D_MODEL).double(), torch.randn(n_tokens, D_MODEL).double()
    with Largest() as largest:
        getattr(modulation, quantity)(*(attention, x) if quantity == "change" else (attention,))
    assert 0 < largest.elements <= n_tokens * D_FFN

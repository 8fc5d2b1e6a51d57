"""Untrained tensors are told from trained ones by a named rule."""

import math

import pytest
import torch
from torch import nn

from npt_viz.checkpoint import initialisation

SEEDS = range(20)


def untouched_rule(tensor):
    return initialisation.untouched_rule(tensor, float(tensor.min()), float(tensor.max()))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25])
def test_a_constant_says_its_value(value):
    assert untouched_rule(torch.full((5, 7), value)) == f"every value is {value:g}"


@pytest.mark.parametrize(("inp", "out"), [(576, 64), (64, 1536), (2048, 256)])
def test_a_fresh_linear_is_recognised(inp, out):
    found = [untouched_rule(nn.Linear(inp, out, bias=False).weight.detach()) for _ in SEEDS]
    assert found.count(f"uniform within ±1/sqrt({inp}), the default of nn.Linear") >= 19


@pytest.mark.parametrize("std", [0.01, 0.02, 1 / math.sqrt(576)])
def test_a_fresh_normal_is_recognised(std):
    found = [untouched_rule(std * torch.randn(576, 64)) for _ in SEEDS]
    assert found.count(f"normal with the customary standard deviation {std:.4g}") >= 18


def test_training_leaves_every_rule():
    """Twenty steps of AdamW at a customary learning rate, from each of the customary starts."""
    for start in (nn.Linear(576, 64, bias=False).weight.detach().clone(), 0.02 * torch.randn(576, 64)):
        weight = nn.Parameter(start.clone())
        optimiser = torch.optim.AdamW([weight], lr=1e-3)
        target, x = torch.randn(128, 576), torch.randn(128, 64)
        for _ in range(20):
            optimiser.zero_grad()
            (x @ weight.reshape(64, 576) - target).square().mean().backward()
            optimiser.step()
        assert untouched_rule(start) and not untouched_rule(weight.detach())


def test_an_uncustomary_spread_is_no_evidence():
    assert [untouched_rule(0.0173 * torch.randn(576, 64)) for _ in SEEDS] == [None] * 20
    assert [untouched_rule(0.02 * torch.randn(576, 64) + 0.001) for _ in SEEDS] == [None] * 20


def test_the_right_spread_in_the_wrong_shape_is_no_evidence():
    """Standard deviation 0.02, but even instead of normal."""
    even = 0.02 * 3**0.5 * (2 * torch.rand(576, 64) - 1)
    assert float(even.std()) == pytest.approx(0.02, rel=1e-2)
    assert untouched_rule(even) is None


def test_few_values_are_no_evidence():
    assert untouched_rule(nn.Linear(7, 5).weight.detach()) is None

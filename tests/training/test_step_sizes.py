"""Each factor's step size: how far a step of equal size moves what it makes, by brute force."""

import pytest
import torch
from conftest import specimen

from npt_viz.adapter import Semantics, random_adapter
from npt_viz.training.learner import Learner
from npt_viz.training.losses import objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.step_sizes import FULL_STEP_WIDTH, step_groups, step_scales

D_MODEL, D_FFN, RATE = 149, 151, 1e-3


def moved(rank: int, components: int, factor: str) -> float:
    """Largest change of a scalar (W_a_up) or of the output at scalar 1 (W_b_up) by a step of its size."""
    adapter = random_adapter(
        0, Semantics(), ("gate",), d_model=D_MODEL, d_ffn=D_FFN, rank=rank, components=components
    )
    modulation = adapter.modulations["gate"]
    step = RATE * step_scales(modulation)[factor]
    change = torch.full(getattr(modulation, factor).shape, step)
    p = torch.ones(components, rank)
    if factor == "W_a_up":
        return torch.einsum("kr,krd,d->k", p, change, torch.ones(D_MODEL)).max().item() / D_MODEL
    return torch.einsum("k,kr,kro->o", torch.ones(components), p, change).max().item()


@pytest.mark.parametrize("factor", ["W_a_up", "W_b_up"])
def test_a_step_moves_scalars_and_output_as_far_at_every_size(factor):
    expected = RATE * FULL_STEP_WIDTH
    for rank, components in ((FULL_STEP_WIDTH, 1), (67, 1), (67, 3), (149, 7), (101, 2)):
        assert moved(rank, components, factor) == pytest.approx(expected, rel=1e-4), "float32 sum of 1,043"
    assert moved(5, 2, factor) < expected, "small factors take the whole learning rate, never more"


def test_the_factor_of_the_bottleneck_takes_the_whole_learning_rate_at_any_size():
    for rank, components in ((5, 1), (149, 7)):
        adapter = random_adapter(
            0, Semantics(), ("up",), d_model=D_MODEL, d_ffn=D_FFN, rank=rank, components=components
        )
        assert step_scales(adapter.modulations["up"])["W_down"] == 1


@pytest.mark.parametrize("variant", ["N1", "N5", "S1-early", "T1"])
def test_every_parameter_of_an_adapter_is_in_one_group(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant, 2)
    grouped = [id(p) for group in step_groups(adapter).values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in adapter.parameters())


def test_the_first_step_of_adam_has_the_size_of_its_group(tiny_llama):
    """AdamW's first step moves every entry by the learning rate."""
    adapter = random_adapter(
        2,
        Semantics(),
        ("gate",),
        d_model=tiny_llama.d_model,
        d_ffn=tiny_llama.d_ffn,
        rank=23,
        components=7,
    )
    before = {name: p.detach().clone() for name, p in adapter.named_parameters()}
    learner = Learner(adapter, Recipe(steps=10, clip=1e9))
    goal = objective("direct=1")
    gradients = [torch.randn_like(p) for p in adapter.parameters()]
    learner.update(
        goal, goal.weights_after(0), [({"direct": 1.0}, {"direct": gradients})], RATE, cosines=False
    )
    for name, parameter in adapter.named_parameters():
        share = {"W_down": 1.0, "W_a_up": 1.0, "W_b_up": 32 / (23 * 7)}[name.rsplit(".", 1)[-1]]
        moved_by = (parameter.detach() - before[name]).abs().median().item()
        assert moved_by == pytest.approx(RATE * share, rel=1e-3), name

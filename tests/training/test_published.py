"""The published initialisations: each draw has the size its description gives."""

import pytest
import torch

from npt_viz.adapter import Semantics, random_adapter
from npt_viz.training.published import initialise_as_published

WIDTH, FFN, RANK = 211, 307, 37


def drawn(scheme, seed=0, components=3):
    adapter = random_adapter(
        0, Semantics(), ("gate",), d_model=WIDTH, d_ffn=FFN, rank=RANK, components=components, seed=9
    )
    initialise_as_published(adapter, scheme, seed=seed)
    return adapter.modulations["gate"]


@pytest.mark.parametrize("scheme", ["improved", "conservative", "uniform"])
def test_w_down_is_xavier_uniform(scheme):
    W = drawn(scheme).W_down
    bound = (6 / (WIDTH + RANK)) ** 0.5
    assert 0.98 * bound < W.abs().max() < bound
    torch.testing.assert_close(W.std().item(), bound / 3**0.5, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("scheme", "diagonal", "noise"), [("improved", 1.0, 0.1), ("conservative", 0.3, 0.01)]
)
def test_single_layer_schemes_start_w_a_up_near_the_identity(scheme, diagonal, noise):
    rest = drawn(scheme).W_a_up[0] - diagonal * torch.eye(RANK, WIDTH)
    torch.testing.assert_close(rest.std().item(), noise, rtol=0.03, atol=0)


def test_w_b_up_is_small():
    improved, conservative, uniform = (drawn(s).W_b_up[0] for s in ("improved", "conservative", "uniform"))
    torch.testing.assert_close(improved.std().item(), 0.1 * (2 / (RANK + FFN)) ** 0.5, rtol=0.03, atol=0)
    assert 0.00099 < conservative.abs().max() <= 0.001
    assert 0.0099 < uniform.abs().max() <= 0.01


@pytest.mark.parametrize(("scheme", "scale"), [("improved", 0.001), ("uniform", 0.01)])
def test_further_components_are_orthogonal_and_smaller(scheme, scale):
    modulation = drawn(scheme)
    for j in (1, 2):
        torch.testing.assert_close(modulation.W_a_up[j] @ modulation.W_a_up[j].T, scale**2 * torch.eye(RANK))
        up = modulation.W_b_up[j]
        torch.testing.assert_close(up @ up.T, (0.1 * scale) ** 2 * torch.eye(RANK), rtol=1e-4, atol=1e-9)
    assert not torch.equal(modulation.W_a_up[1], modulation.W_a_up[2])


def test_the_seed_decides():
    assert torch.equal(drawn("improved", seed=1).W_a_up, drawn("improved", seed=1).W_a_up)
    assert not torch.equal(drawn("improved", seed=1).W_a_up, drawn("improved", seed=2).W_a_up)

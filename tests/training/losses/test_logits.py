"""Losses on logits against torch.distributions and the explicit logits."""

import torch
from torch.distributions import Categorical, kl_divergence

from npt_viz.training.losses import logits

N_TOKENS, WIDTH, VOCAB = 7, 11, 23


def states():
    return [torch.randn(N_TOKENS, WIDTH, dtype=torch.float64) for _ in range(2)] + [
        torch.randn(VOCAB, WIDTH, dtype=torch.float64)
    ]


def test_fidelity_is_the_mean_square_of_the_difference_of_explicit_logits():
    x, base, E = states()
    expected = (x @ E.T - base @ E.T).square().mean()
    torch.testing.assert_close(logits.fidelity(x, base, E.T @ E, VOCAB), expected)


def test_kl_is_that_of_the_distributions_with_the_base_first(monkeypatch):
    x, base, E = states()
    expected = kl_divergence(Categorical(logits=base @ E.T), Categorical(logits=x @ E.T)).mean()
    torch.testing.assert_close(logits.kl(x, base, lambda s: s @ E.T, VOCAB), expected)
    monkeypatch.setattr(logits, "CHUNK_ELEMENTS", 3 * VOCAB)
    torch.testing.assert_close(logits.kl(x, base, lambda s: s @ E.T, VOCAB), expected)


def test_a_shift_of_all_logits_costs_fidelity_and_not_kl():
    x, _, E = states()
    x[:, 0] = 1.0
    E[:, 0] = 1.0
    shifted = x.clone()
    shifted[:, 0] += 5
    assert logits.fidelity(shifted, x, E.T @ E, VOCAB).item() > 24
    assert abs(logits.kl(shifted, x, lambda s: s @ E.T, VOCAB).item()) < 1e-12


def test_gradients():
    x, base, E = states()
    x.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: logits.fidelity(x, base, E.T @ E, VOCAB), x)
    assert torch.autograd.gradcheck(lambda x: logits.kl(x, base, lambda s: s @ E.T, VOCAB), x)

"""KL, NLL and top-k of next-token distributions against float64, torch.distributions and numpy."""

import numpy as np
import pytest
import torch

from npt_viz.next_token import kl, nll, top_k

VOCAB = 49_152


def plain_kl(log_p, log_q):
    """The defining sum."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def two_lanes(change: float, n_tokens: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a language model's scale with a few likely tokens, and the same perturbed."""
    logits = 2.5 * torch.randn(n_tokens, VOCAB)
    logits[:, :20] += 12 * torch.rand(n_tokens, 20)
    return logits, logits + change * torch.randn(n_tokens, VOCAB)


def worst(measured, exact) -> float:
    """Largest relative error."""
    return float(((measured.double() - exact).abs() / exact).max())


@pytest.mark.parametrize("change", [5e-4, 1e-3, 4.5e-3, 0.05, 0.5, 2.0, 4.0])
def test_kl_in_float32_is_right_to_1_percent_at_every_size(change):
    logits = two_lanes(change)
    exact = plain_kl(*(lane.double().log_softmax(-1) for lane in logits))
    log_p, log_q = (lane.log_softmax(-1) for lane in logits)
    assert worst(kl(log_p, log_q), exact) < (0.01 if change < 1e-3 else 1e-3)
    if change == 4.5e-3:
        assert 3e-6 < exact.median() < 3e-5
        assert worst(plain_kl(log_p, log_q), exact) > 0.03
    assert worst(kl(*(lane.double() for lane in (log_p, log_q))), exact) < 0.01


def test_the_sizes_above_reach_from_1e_7_to_more_than_1():
    small, large = (
        plain_kl(*(lane.double().log_softmax(-1) for lane in two_lanes(change))) for change in (5e-4, 4.0)
    )
    assert small.max() < 3e-7 and large.min() > 1


def test_a_shift_of_one_distribution_enters_squared():
    """What rounding of a log-normaliser does: KL of p with itself, moved by 1e-4, is 1e-8 / 2."""
    log_p = two_lanes(0.0)[0].double().log_softmax(-1)
    assert torch.allclose(kl(log_p, log_p + 1e-4), torch.tensor(0.5e-8, dtype=torch.float64), rtol=1e-3)
    assert (kl(log_p, log_p) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 60.0, 3000.0])
def test_kl_is_the_defining_sum_however_sharp_the_distributions(dtype, scale):
    """Scale 3000: log-probabilities beyond what exp can hold."""
    a, b = (scale * torch.randn(5, 31, dtype=torch.float64) for _ in range(2))
    expected = plain_kl(a.log_softmax(-1), b.log_softmax(-1))
    log_p, log_q = (each.log_softmax(-1).to(dtype) for each in (a, b))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(kl(log_p, log_q).double(), expected, rtol=tolerance, atol=tolerance)
    one_to_all = kl(log_p[:1], log_q)
    torch.testing.assert_close(one_to_all, kl(log_p[:1].expand(5, -1), log_q))
    if scale < 100:  # torch takes a probability that underflows for 0, and the KL for infinite.
        categorical = torch.distributions.Categorical
        torch_s = torch.distributions.kl_divergence(categorical(logits=a), categorical(logits=b))
        torch.testing.assert_close(expected, torch_s)


def test_probability_zero_adds_nothing_on_the_left_and_is_infinite_on_the_right():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [torch.nan, 0.5, 0.5], [0.5, 0.5, 0.0]])
    q = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25]])
    found = kl(p.log(), q.log())
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.inf, np.nan, 0.5 * np.log(2)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert kl(p[:2].log(), q[2:].log().where(q[2:] > 0.3, torch.nan)).isnan().all()


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_gradient_is_that_of_the_defining_sum(scale):
    """gradcheck compares with finite differences; at scale 100 ratios exceed what the short form may take."""
    reference = (scale * torch.randn(3, 7, dtype=torch.float64)).log_softmax(-1)
    logits = (scale * torch.randn(3, 7, dtype=torch.float64)).requires_grad_()

    def divergence(logits):
        return kl(reference, logits.log_softmax(-1))

    assert torch.autograd.gradcheck(divergence, [logits])
    (gradient,) = torch.autograd.grad(divergence(logits).sum(), logits)
    (expected,) = torch.autograd.grad(plain_kl(reference, logits.log_softmax(-1)).sum(), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert scale < 100 or (logits.log_softmax(-1) - reference).max() > 80


def test_nll_and_top_k_are_those_of_sorted_distributions():
    log_p = torch.randn(3, 5, 17).log_softmax(-1)
    ids = torch.randint(17, (3, 5))
    expected = -log_p.numpy()[np.arange(3)[:, None], np.arange(5), ids.numpy()]
    np.testing.assert_array_equal(nll(log_p, ids).numpy(), expected)
    found = top_k(log_p, 4)
    order = np.argsort(-log_p.numpy(), axis=-1)
    np.testing.assert_array_equal(found.ids.numpy(), order[..., :4])
    np.testing.assert_allclose(
        found.probabilities.numpy(), np.exp(np.take_along_axis(log_p.numpy(), order, -1))[..., :4], rtol=1e-6
    )
    assert top_k(log_p, 40).ids.shape == (3, 5, 17)

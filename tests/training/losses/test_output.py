"""Losses on ŷ against numpy, token by token, and gradcheck."""

import numpy as np
import pytest
import torch

from npt_viz.training.losses import output

N_TOKENS, WIDTH = 11, 7


@pytest.fixture
def batch():
    """(ŷ, target, MLP(z), a, MLP(z_C)) in float64; token 3 is a thousand times larger than the others."""
    size = torch.ones(N_TOKENS, 1, dtype=torch.float64)
    size[3] = 1000
    return [size * torch.randn(N_TOKENS, WIDTH, dtype=torch.float64) for _ in range(5)]


def close(value, expected):
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)


def test_direct_is_the_relative_squared_error_averaged_over_tokens(batch):
    y, target, plain, *_ = (t.numpy() for t in batch)
    shares = [sum((y[t] - target[t]) ** 2) / sum((plain[t] - target[t]) ** 2) for t in range(N_TOKENS)]
    close(output.direct(*batch[:3]), np.mean(shares))


def test_direct_is_one_without_modulation_and_zero_when_perfect(batch):
    _, target, plain, *_ = batch
    close(output.direct(plain, target, plain), 1.0)
    close(output.direct(target, target, plain), 0.0)


def test_direct_robust_is_the_mean_logarithm_of_one_plus_the_share_left(batch):
    y, target, plain, *_ = (t.numpy() for t in batch)
    shares = [sum((y[t] - target[t]) ** 2) / sum((plain[t] - target[t]) ** 2) for t in range(N_TOKENS)]
    close(output.direct_robust(*batch[:3]), np.mean([np.log(1 + share) for share in shares]))


def test_a_token_far_off_pulls_direct_robust_less_than_direct(batch):
    """Of two tokens, one a thousand times off: its part of the gradient is bounded."""
    _, target, plain, *_ = batch
    y = torch.stack([plain[0], target[1] + 1000 * (plain[1] - target[1])]).requires_grad_(True)
    sizes = []
    for loss in (output.direct, output.direct_robust):
        (gradient,) = torch.autograd.grad(loss(y, target[:2], plain[:2]), y)
        sizes.append((gradient * (y - target[:2])).sum(-1).detach())
    assert sizes[0][1] > 1e5 * sizes[0][0]
    assert sizes[1][1] < 3 * sizes[1][0]


def test_direct_ignores_the_unit_and_its_published_form_does_not(batch):
    y, target, plain, *_ = batch
    close(output.direct(5 * y, 5 * target, 5 * plain), output.direct(y, target, plain).item())
    close(output.direct_as_written(5 * y, 5 * target), 5 * output.direct_as_written(y, target).item())


def test_direct_as_written_is_the_mean_square_over_the_root_mean_square_of_the_target(batch):
    y, target, *_ = (t.numpy() for t in batch)
    close(
        output.direct_as_written(*batch[:2]),
        ((y - target) ** 2).mean() / np.sqrt((target**2).sum() / target.size),
    )


def test_decomposed_splits_the_error_along_the_attention_output_and_across_it(batch):
    y, target, plain, a, _ = (t.numpy() for t in batch)
    along, across = {"error": [], "needed": []}, {"error": [], "needed": []}
    for t in range(N_TOKENS):
        unit = a[t] / np.linalg.norm(a[t])
        scale = np.linalg.norm(plain[t] - target[t]) ** 2
        for name, vector in (("error", y[t] - target[t]), ("needed", plain[t] - target[t])):
            parallel = (vector @ unit) * unit
            along[name].append(np.linalg.norm(parallel) ** 2 / scale)
            across[name].append(np.linalg.norm(vector - parallel) ** 2 / scale)
    expected = [np.mean(part["error"]) / np.mean(part["needed"]) for part in (along, across)]
    close(output.decomposed(*batch[:4], along=1.0, across=0.0), expected[0])
    close(output.decomposed(*batch[:4], along=0.0, across=1.0), expected[1])
    close(output.decomposed(*batch[:4]), 0.5 * sum(expected))


def test_decomposed_is_one_without_modulation(batch):
    _, target, plain, a, _ = batch
    close(output.decomposed(plain, target, plain, a), 1.0)


def test_the_second_part_of_decomposed_as_written_is_a_constant(batch):
    y, _, _, a, taught = batch
    expected = 0.5 * ((y - a) ** 2).mean() + 0.5 * (taught**2).mean()
    close(output.decomposed_as_written(y, a, taught), expected.item())
    y.requires_grad_(True)
    (gradient,) = torch.autograd.grad(output.decomposed_as_written(y, a, taught), y)
    torch.testing.assert_close(gradient, (y - a).detach() / y.numel())


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, target, plain, a, taught: output.direct(y, target, plain),
        lambda y, target, plain, a, taught: output.direct_as_written(y, target),
        lambda y, target, plain, a, taught: output.decomposed(y, target, plain, a),
        lambda y, target, plain, a, taught: output.decomposed_as_written(y, a, taught),
    ],
    ids=["direct", "direct as written", "decomposed", "decomposed as written"],
)
def test_gradients(loss, batch):
    y, *others = (t[:3] for t in batch)
    assert torch.autograd.gradcheck(lambda y: loss(y, *others), y.clone().requires_grad_(True))

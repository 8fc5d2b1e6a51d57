"""Principal axes against numpy's SVD, ranks against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from npt_viz.analysis.pca import effective_rank, participation_ratio, principal_axes, singular_values
from npt_viz.errors import NptVizError

wide_and_narrow = pytest.mark.parametrize("shape", [(7, 13), (29, 11)])


def cloud(shape):
    return torch.randn(shape, dtype=torch.float64) @ torch.diag(torch.linspace(3, 0.1, shape[1]).double()) + 2


@wide_and_narrow
@pytest.mark.parametrize("centred", [True, False])
def test_axes_and_variances_are_those_of_the_singular_value_decomposition(shape, centred):
    x = cloud(shape)
    found = principal_axes(x, centred=centred)
    mean = x.numpy().mean(0) * centred
    _, sigma, rows = np.linalg.svd(x.numpy() - mean, full_matrices=False)
    n_axes = min(shape[0] - centred, shape[1])
    assert len(found.axes) == n_axes
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.variances, sigma[:n_axes] ** 2 / shape[0], rtol=1e-9)
    np.testing.assert_allclose(found.total, (sigma**2).sum() / shape[0], rtol=1e-9)
    np.testing.assert_allclose(np.abs((found.axes.numpy() * rows[:n_axes]).sum(1)), 1, atol=1e-9)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(n_axes), atol=1e-9)


@wide_and_narrow
def test_the_largest_entry_of_every_axis_is_positive(shape):
    axes = principal_axes(cloud(shape)).axes
    assert all(row[row.abs().argmax()] > 0 for row in axes)


def test_explained_shares_add_up_to_one_and_count_the_axes_that_were_cut():
    x = cloud((29, 11))
    assert principal_axes(x).explained.sum().item() == pytest.approx(1)
    two = principal_axes(x, at_most=2)
    assert len(two.axes) == 2
    assert two.explained.sum().item() < 0.9


def test_equal_vectors_have_no_centred_axis_and_one_that_is_not():
    x = torch.tensor([[3.0, -4.0]]).expand(5, 2)
    with pytest.raises(NptVizError, match="all 5 vectors are equal"):
        principal_axes(x)
    assert principal_axes(x, centred=False).axes.tolist() == [pytest.approx([-0.6, 0.8])]


def test_float32_rounding_is_no_axis():
    row = torch.randn(13)
    x = torch.stack([row * (1 + 1e-7 * i) for i in range(5)])
    with pytest.raises(NptVizError, match="equal"):
        principal_axes(x)


def test_zero_vectors_have_no_axis():
    with pytest.raises(NptVizError, match="all 3 vectors are zero"):
        principal_axes(torch.zeros(3, 2), centred=False)


@wide_and_narrow
def test_singular_values_are_numpys(shape):
    x = cloud(shape)
    np.testing.assert_allclose(singular_values(x), np.linalg.svd(x.numpy(), compute_uv=False), rtol=1e-7)


def test_the_effective_rank_of_a_hand_made_spectrum():
    # p = 1/2, 1/4, 1/4: entropy = 1.5 ln 2.
    assert effective_rank(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(2**1.5)
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    assert effective_rank(torch.tensor([3.0, 0.0])) == pytest.approx(1)


def test_the_participation_ratio_of_a_hand_made_spectrum():
    # energies 4, 1, 1: 36 / 18.
    assert participation_ratio(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(2)
    assert participation_ratio(torch.ones(5)) == pytest.approx(5)


def test_noise_counts_in_the_effective_rank_and_hardly_in_the_participation_ratio():
    singular = torch.tensor([1.0] + [0.02] * 50)
    assert effective_rank(singular) > 5
    assert participation_ratio(singular) < 1.05
    assert math.isclose(singular.square()[1:].sum(), 0.02, rel_tol=1e-5)

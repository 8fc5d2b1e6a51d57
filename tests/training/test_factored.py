"""Factored vectors against the explicit ones that the adapter itself makes."""

import pytest
import torch
from conftest import specimen

from npt_viz.adapter import LowRankTanh, RankOneSum
from npt_viz.errors import NptVizError
from npt_viz.training.factored import Vectors, vectors_of

N_TOKENS = 7


def cases():
    rank_one = RankOneSum(torch.randn(3, 11, 5), torch.randn(3, 5, 11), torch.randn(3, 5, 17), scale=-0.7)
    return [rank_one, LowRankTanh(torch.randn(11, 5), torch.randn(5, 17), scale=1.3)]


@pytest.mark.parametrize("modulation", cases(), ids=["rank_one_sum", "low_rank_tanh"])
@pytest.mark.parametrize("which", ["v_a", "v_b"])
def test_every_product_equals_that_of_the_explicit_vectors(modulation, which):
    a = torch.randn(N_TOKENS, 11)
    dense = getattr(modulation, which)(a).detach()
    found: Vectors = vectors_of(modulation, a)[("v_a", "v_b").index(which)]
    x, directions = torch.randn(N_TOKENS, dense.shape[-1]), torch.randn(dense.shape[-1], 3)
    for made, expected in (
        (found.squared_norm(), dense.square().sum(-1)),
        (found.norm(), dense.norm(dim=-1)),
        (found.dot(x), (dense * x[:, None]).sum(-1)),
        (found.cosine(x), torch.cosine_similarity(dense, x[:, None], dim=-1)),
        (found.projected(directions), dense @ directions),
        (found.centred().squared_norm(), (dense - dense.mean(0)).square().sum(-1)),
        (found.overlaps(), dense @ dense.mT),
    ):
        torch.testing.assert_close(made.detach(), expected, rtol=1e-4, atol=1e-4)
    assert found.dim == dense.shape[-1]


def test_the_cosine_with_nothing_is_zero():
    nothing = Vectors(torch.zeros(N_TOKENS, 1, 2), torch.randn(1, 2, 5))
    assert nothing.cosine(torch.randn(N_TOKENS, 5)).abs().max() == 0


def test_an_additive_adapter_has_no_vectors(tiny_llama):
    with pytest.raises(NptVizError, match="has no v_a and v_b"):
        vectors_of(specimen(tiny_llama, "S0").modulations["gate"], torch.randn(2, tiny_llama.d_model))

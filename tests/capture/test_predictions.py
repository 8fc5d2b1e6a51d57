"""Predictions in chunks against whole distributions."""

import numpy as np
import pytest
import torch

from npt_viz.capture import predictions as module
from npt_viz.capture.predictions import predictions


@pytest.fixture
def final(tiny_llama):
    return torch.randn(3, 13, tiny_llama.d_model)


def test_every_number_is_that_of_the_whole_distribution(tiny_llama, final, monkeypatch):
    ids = torch.randint(2, 258, (13,))
    # Chunks of two tokens: the last one is shorter.
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 2 * 3 * 258)
    found = predictions(tiny_llama, final, ids, top_k=5)
    all_lanes = torch.distributions.Categorical(logits=tiny_llama.unembedding(final))
    base = torch.distributions.Categorical(logits=tiny_llama.unembedding(final[:1]).expand(3, -1, -1))
    expected = torch.distributions.kl_divergence(base, all_lanes)
    np.testing.assert_allclose(found.kl, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert (found.kl[0] == 0).all() and found.kl[1:].min() > 1e-3
    nll = -all_lanes.log_prob(ids.roll(-1).expand(3, -1))
    np.testing.assert_allclose(found.nll[:, :-1], nll[:, :-1].numpy(), rtol=1e-4)
    assert np.isnan(found.nll[:, -1]).all()
    top = all_lanes.probs.topk(5)
    assert (found.top_ids == top.indices.numpy()).all()
    np.testing.assert_allclose(found.top_probabilities, top.values.numpy(), rtol=1e-4)
    assert (found.agrees == (top.indices[..., 0] == top.indices[:1, :, 0]).numpy()).all()


def test_kl_can_be_left_out(tiny_llama, final):
    ids = torch.randint(2, 258, (13,))
    whole, without = (predictions(tiny_llama, final, ids, with_kl=each) for each in (True, False))
    assert np.isnan(without.kl).all() and not np.isnan(whole.kl).any()
    np.testing.assert_array_equal(without.nll, whole.nll)

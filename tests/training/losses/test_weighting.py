"""Stages, adaptive factors and the curriculum against the published numbers."""

import numpy as np
import pytest
import torch

from npt_viz.errors import NptVizError
from npt_viz.training.losses import COMPOSITE, AdaptiveWeights, Curriculum, staged_weights

S = 1000


@pytest.mark.parametrize(
    ("step", "direct", "encoding", "fidelity"),
    [
        (0, 0.1, 0.8, 0.1),
        (S - 1, 0.1, 0.8, 0.1),
        (S, 0.1, 0.8, 0.1),
        (2 * S, 0.3, 0.55, 0.2),
        (3 * S - 1, 0.4998, 0.30025, 0.2999),
        (3 * S, 10.0, 1.0, 1.0),
        (9 * S, 10.0, 1.0, 1.0),
    ],
)
def test_the_three_stages(step, direct, encoding, fidelity):
    weights = staged_weights(COMPOSITE, step)
    assert weights == pytest.approx(
        {
            "direct": direct,
            "attention_encoding": encoding,
            "fidelity": fidelity,
            "regularisation": 0.01,
            "guidance": 2.0,
            "bottleneck": 0.5,
        }
    )


def test_the_stages_move_with_their_length():
    assert staged_weights(COMPOSITE, 14, stage_steps=7) == staged_weights(COMPOSITE, 2 * S)
    assert staged_weights(COMPOSITE, 21, stage_steps=7)["direct"] == 10


def test_a_loss_that_is_off_stays_off_in_every_stage():
    assert staged_weights({"direct": 10.0, "bottleneck": 0.5}, 0) == {"direct": 0.1, "bottleneck": 0.5}


def test_adaptive_factors_are_inverse_to_the_running_gradient_norms():
    adaptive = AdaptiveWeights(decay=0.9)
    adaptive.updated({"direct": 4.0, "strength": 1.0})
    factors = adaptive.updated({"direct": 2.0, "strength": 3.0})
    norms = np.array([0.9 * 4 + 0.1 * 2, 0.9 * 1 + 0.1 * 3])
    np.testing.assert_allclose(list(factors.values()), 2 / norms / (1 / norms).sum())
    assert sum(factors.values()) == pytest.approx(2)


def test_adaptive_factors_survive_a_loss_without_a_gradient():
    factors = AdaptiveWeights().updated({"direct": 1.0, "consistency": 0.0})
    assert all(np.isfinite(list(factors.values())))
    assert AdaptiveWeights().updated({"direct": 0.0}) == {"direct": 1.0}


def test_the_curriculum_admits_tokens_by_the_size_of_their_attention():
    attention = torch.arange(1.0, 11)[:, None] * torch.tensor([0.6, 0.8])
    curriculum = Curriculum()
    admitted = {
        step: curriculum.mask(attention, step).nonzero()[:, 0].tolist() for step in (0, 499, 500, 999, 1000)
    }
    assert admitted[0] == admitted[499] == [0, 1, 2]
    assert admitted[500] == admitted[999] == [0, 1, 2, 3, 4, 5, 6]
    assert admitted[1000] == list(range(10))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"steps": (5, 3), "quantiles": (0.1, 0.2)}, "steps must rise"),
        ({"steps": (5,), "quantiles": (0.1, 0.2)}, "one to one"),
        ({"steps": (5,), "quantiles": (0.0,)}, "quantiles must lie"),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused(settings, reason):
    with pytest.raises(NptVizError, match=reason):
        Curriculum(**settings)

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
    weights = {"direct": 10.0, "bottleneck": 0.5}
    assert staged_weights(weights, 0) == {"direct": 0.1, "bottleneck": 0.5}
    assert staged_weights(weights, 3 * S) == weights


def test_the_regularisation_has_its_published_weight_until_the_last_stage():
    weights = {"direct": 10.0, "regularisation": 4.0}
    assert staged_weights(weights, 3 * S - 1)["regularisation"] == 0.01
    assert staged_weights(weights, 3 * S)["regularisation"] == 4


def test_adaptive_factors_are_inverse_to_the_running_gradient_norms():
    adaptive = AdaptiveWeights()
    adaptive.updated({"direct": 4.0, "strength": 1.0})
    factors = adaptive.updated({"direct": 2.0, "strength": 3.0})
    norms = np.array([0.9 * 4 + 0.1 * 2, 0.9 * 1 + 0.1 * 3])
    np.testing.assert_allclose(list(factors.values()), 2 / norms / (1 / norms).sum())
    assert sum(factors.values()) == pytest.approx(2)


def test_adaptive_factors_survive_a_loss_without_a_gradient():
    factors = AdaptiveWeights().updated({"direct": 1.0, "consistency": 0.0})
    assert all(np.isfinite(list(factors.values())))
    # It counts as a millionth of the largest, whatever the unit.
    factors = AdaptiveWeights().updated({"direct": 400.0, "consistency": 0.0})
    assert factors["consistency"] / factors["direct"] == pytest.approx(1e6)
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
    assert {curriculum.mask(attention, step).dtype for step in (0, 1000)} == {torch.bool}


def test_a_token_at_the_quantile_itself_does_not_count():
    attention = torch.arange(1.0, 12)[:, None] * torch.tensor([1.0, 0.0])
    half = Curriculum(steps=(5,), quantiles=(0.5,))  # The median of eleven is one of them: the sixth.
    assert half.mask(attention, 0).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_curriculum_may_admit_every_token_in_a_stage():
    whole = Curriculum(steps=(5, 9), quantiles=(1.0, 0.3))
    assert whole.mask(torch.randn(4, 7), 0).all() and not whole.mask(torch.randn(4, 7), 5).all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"steps": (5, 3), "quantiles": (0.1, 0.2)}, "steps must rise"),
        ({"steps": (5,), "quantiles": (0.1, 0.2)}, "one to one"),
        ({"steps": (5, 5), "quantiles": (0.1, 0.2)}, "steps must rise"),
        ({"steps": (5,), "quantiles": (0.0,)}, "quantiles must lie"),
        ({"steps": (5,), "quantiles": (1.1,)}, "quantiles must lie"),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused(settings, reason):
    with pytest.raises(NptVizError, match=reason):
        Curriculum(**settings)

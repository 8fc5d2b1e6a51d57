"""The numbers of a step and of an evaluation against explicit vectors."""

import numpy as np
import pytest
import torch
from conftest import specimen

from npt_viz.capture.inspection import inspect
from npt_viz.checkpoint import Checkpoint
from npt_viz.training.capturing import captured
from npt_viz.training.measures import evaluated, gradient_cosines, measured_targets
from npt_viz.training.student import student

LAYER = 2


def seen_by(model, variant, ids):
    adapter = specimen(model, variant, LAYER)
    return adapter, student(model, adapter, captured(model, [ids], [LAYER]).layers[LAYER])


@pytest.mark.parametrize("variant", ["N5", "T1"])
def test_a_targets_numbers_are_those_of_its_explicit_vectors(tiny_llama, variant):
    adapter, seen = seen_by(tiny_llama, variant, torch.randint(2, 258, (19,)))
    found = measured_targets(seen)
    assert set(found) == set(adapter.targets)
    for target, modulation in adapter.modulations.items():
        v_a, v_b = modulation.v_a(seen.attention), modulation.v_b(seen.attention)
        x = seen.trace.intermediate if target == "down" else seen.mlp_input
        scalar = (v_a * x[:, None]).sum(-1)
        update = torch.einsum("tki,tko->toi", v_a, v_b).flatten(1).norm(dim=1)
        expected = [scalar.mean(), scalar.var(dim=0, correction=0).mean(), v_a.norm(dim=-1).mean()]
        expected += [v_b.norm(dim=-1).mean(), update.mean()]
        made = found[target]
        numbers = [made.scalar_mean, made.scalar_variance, made.v_a_norm, made.v_b_norm, made.update_norm]
        np.testing.assert_allclose(numbers, torch.stack(expected).numpy(), rtol=2e-4)
        if target == "down":
            assert np.isnan(made.attention_similarity)
        else:
            cosine = torch.cosine_similarity(v_a, seen.attention[:, None], dim=-1).mean()
            np.testing.assert_allclose(made.attention_similarity, cosine, rtol=1e-4)


def test_an_additive_adapter_has_no_such_numbers(tiny_llama):
    _, seen = seen_by(tiny_llama, "S0", torch.randint(2, 258, (19,)))
    assert np.isnan(measured_targets(seen)["gate"].update_norm)


def test_cosines_between_gradients():
    gradients = [[torch.randn(3, 5), torch.randn(7)] for _ in range(3)]
    flat = np.stack([np.concatenate([t.numpy().ravel() for t in gradient]) for gradient in gradients])
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(gradient_cosines(gradients), unit @ unit.T, rtol=1e-5)


def test_the_cosine_with_a_gradient_that_is_zero_is_not_a_number():
    found = gradient_cosines([[torch.ones(3)], [torch.zeros(3)]])
    assert found[0, 0] == pytest.approx(1) and np.isnan(found[0, 1]) and np.isnan(found[1, 1])


def test_evaluation_agrees_with_inspection(tiny_llama):
    """Two roads to the share recovered: training's batches, and a prompt inspected."""
    prompt = "The quick brown fox jumps over it."
    ids = tiny_llama.tokenizer(prompt)["input_ids"]
    adapter, seen = seen_by(tiny_llama, "N4", torch.tensor(ids))
    is_sink = torch.zeros(len(ids), dtype=torch.bool)
    is_sink[2] = True
    parts = [seen.where(torch.arange(len(ids)) < 9), seen.where(torch.arange(len(ids)) >= 9)]
    found = evaluated(LAYER, [(parts[0], is_sink[:9]), (parts[1], is_sink[9:])])
    checkpoint = Checkpoint.from_adapters({LAYER: adapter}, tiny_llama, "specimen")
    layer = inspect(tiny_llama, checkpoint, ids).layers[LAYER]
    keep = ~is_sink.numpy()

    # torch's median of an even number is the lower of the two in the middle.
    def median(values):
        return np.sort(values)[(len(values) - 1) // 2]

    np.testing.assert_allclose(found.recovered, median(layer.recovered[keep]), rtol=1e-4)
    np.testing.assert_allclose(found.relative_error, median(layer.relative_error[keep]), rtol=1e-4)
    np.testing.assert_allclose(found.sink_recovered, layer.recovered[2], rtol=1e-3)
    np.testing.assert_allclose(found.scalar_mean, layer.scalars["gate"][keep, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(found.scalar_std, layer.scalars["gate"][keep, 0].std(ddof=1), rtol=1e-4)
    assert found.n_tokens == len(ids) - 1


def test_nothing_can_be_recovered_where_attention_stays(tiny_llama):
    _, seen = seen_by(tiny_llama, "S0-residual", torch.randint(2, 258, (19,)))
    assert np.isnan(evaluated(LAYER, [(seen, torch.zeros(19, dtype=torch.bool))]).recovered)

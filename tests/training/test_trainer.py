"""Whole trainings on a tiny model: they find what was planted, repeat exactly, and leave the base alone."""

import copy
import inspect as inspect_module
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_model

from npt_viz.capture.inspection import inspect
from npt_viz.errors import NptVizError
from npt_viz.training import trainer
from npt_viz.training.learner import Diverged
from npt_viz.training.losses import Curriculum, composite
from npt_viz.training.recipe import TOKENS, WINDOW, Recipe
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.state import resumed, save_state
from npt_viz.training.student import student
from npt_viz.training.trainer import learning_rate, train

SPEC = AdapterSpec(layers=(1, 3), rank=5, targets=("gate", "up"))
QUICK = {"steps": 4, "batch_tokens": 32, "evaluate_every": 2, "warmup": 2}


@pytest.fixture(scope="module")
def texts():
    return random_texts(14, 60)


def random_texts(n, length):
    generator = torch.Generator().manual_seed(4)
    return ["".join(chr(c) for c in torch.randint(33, 120, (length,), generator=generator)) for _ in range(n)]


def numbers(steps):
    """Everything in the steps but the time."""
    table = pd.DataFrame([row for step in steps for row in step.rows()]).drop(columns="seconds")
    return table.to_numpy(dtype=float)


def test_a_planted_map_is_found(tiny_llama, texts):
    spec = AdapterSpec(layers=(2,), rank=5, targets=("gate", "up"))
    training = train(
        tiny_llama,
        spec,
        texts,
        steps=300,
        batch_tokens=128,
        learning_rate=1e-2,
        warmup=20,
        evaluate_every=100,
    )
    planted = copy.deepcopy(training.adapters[2]).requires_grad_(False)
    for modulation in planted.modulations.values():
        modulation.W_a_up.copy_(3 * modulation.W_a_up.std() * torch.randn(modulation.W_a_up.shape))
        modulation.W_b_up.copy_(0.3 * torch.randn(modulation.W_b_up.shape))
    for capture in (training._stream.train, training._stream.heldout):
        tokens = capture.layers[2]
        with torch.no_grad():
            tokens.mlp_with_attention.copy_(student(tiny_llama, planted, tokens).output - tokens.attention)
    assert training.evaluation()[2].recovered == pytest.approx(0, abs=1e-5)
    *_, last = training
    assert last.heldout[2].recovered > 0.95


@pytest.mark.parametrize("stream", ["base", "in_order", "end_to_end"])
def test_the_same_seed_gives_the_same_numbers_and_another_others(tiny_llama, texts, stream):
    def made(seed):
        losses = "direct=1,kl=0.1,orthogonality=0.1"
        return numbers(list(train(tiny_llama, SPEC, texts, losses, seed=seed, stream=stream, **QUICK)))

    first, same, other = made(3), made(3), made(4)
    assert np.array_equal(first, same, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


def test_the_base_model_is_left_as_it_was(tiny_llama, texts):
    before = {name: tensor.clone() for name, tensor in tiny_llama.hf.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny_llama.hf.modules()]
    for stream in ("base", "in_order", "end_to_end"):
        list(train(tiny_llama, SPEC, texts, "direct=1,fidelity=0.1", stream=stream, **QUICK))
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.hf.state_dict().items())
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny_llama.hf.modules()]
    assert not any(p.requires_grad or p.grad is not None for p in tiny_llama.hf.parameters())


def test_a_fresh_adapter_changes_nothing_and_a_few_steps_improve_it(tiny_llama, texts):
    training = train(tiny_llama, SPEC, texts, steps=40, batch_tokens=64, learning_rate=1e-2, warmup=5)
    untrained = training.evaluation()
    *_, last = training
    for layer in SPEC.layers:
        assert untrained[layer].recovered == pytest.approx(0, abs=1e-5)
        assert last.heldout[layer].recovered > 0.005


def test_local_losses_run_no_layer_at_all(tiny_llama, texts):
    training = train(tiny_llama, SPEC, texts, "direct=1,strength=0.1,orthogonality=0.1", **QUICK)
    ran = []
    handles = [
        tiny_llama.parts(layer).attention.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer in range(5)
    ]
    list(training)
    for handle in handles:
        handle.remove()
    assert not ran


def test_losses_on_logits_run_only_the_layers_above(tiny_llama, texts):
    spec = AdapterSpec(layers=(2,), rank=5)
    training = train(tiny_llama, spec, texts, "fidelity", **QUICK)
    ran = []
    handles = [
        tiny_llama.parts(layer).layer.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer in range(5)
    ]
    next(training)
    for handle in handles:
        handle.remove()
    assert set(ran) == {3, 4}


def test_a_checkpoint_is_continued_on_clones(tiny_llama, texts):
    first = train(tiny_llama, SPEC, texts, **QUICK)
    *_, before = first
    checkpoint = first.checkpoint("first")
    kept = {layer: copy.deepcopy(checkpoint.adapter(layer)) for layer in checkpoint.layers}
    second = train(tiny_llama, checkpoint, texts, **QUICK)
    assert second.evaluation()[3].recovered == pytest.approx(before.heldout[3].recovered)
    list(second)
    for layer, adapter in kept.items():
        for one, other, trained in zip(
            adapter.parameters(),
            checkpoint.adapter(layer).parameters(),
            second.adapters[layer].parameters(),
            strict=True,
        ):
            assert torch.equal(one, other) and not torch.equal(one, trained)


def test_the_checkpoint_in_training_is_a_snapshot_that_other_pages_can_use(tiny_llama, texts):
    training = train(tiny_llama, SPEC, texts, **QUICK)
    next(training)
    snapshot = training.checkpoint()
    before = inspect(tiny_llama, snapshot, texts[0]).layers[3].relative_error
    list(training)
    assert np.array_equal(before, inspect(tiny_llama, snapshot, texts[0]).layers[3].relative_error)
    assert not np.array_equal(
        before, inspect(tiny_llama, training.checkpoint(), texts[0]).layers[3].relative_error
    )


def test_in_order_each_layer_takes_its_steps_on_the_stream_of_those_below(tiny_llama, texts):
    training = train(tiny_llama, SPEC, texts, stream="in_order", **QUICK)
    assert training.total_steps == 8 and set(training.adapters) == {1}
    steps = list(training)
    assert [set(step.layers) for step in steps] == [{1}] * 4 + [{3}] * 4
    assert set(steps[3].heldout) == {1} and set(steps[-1].heldout) == {1, 3}
    assert steps[0].learning_rate == steps[4].learning_rate
    assert training._stream.train.layers.keys() == {3}


def test_end_to_end_a_loss_on_logits_alone_moves_every_layer(tiny_llama, texts):
    training = train(tiny_llama, SPEC, texts, "kl", stream="end_to_end", **QUICK)
    steps = list(training)
    assert steps[-1].layers[1].terms == steps[-1].layers[3].terms
    for layer in SPEC.layers:
        for old, new in zip(
            training.initial[layer].parameters(), training.adapters[layer].parameters(), strict=True
        ):
            assert not torch.equal(old, new)


def test_the_curriculum_leaves_large_attention_out_at_first(tiny_llama, texts):
    plain = composite(stage_steps=None)
    held_back = composite(stage_steps=None, curriculum=Curriculum(steps=(3,), quantiles=(0.3,)))
    first, second = (list(train(tiny_llama, SPEC, texts, goal, **QUICK)) for goal in (plain, held_back))
    for one, two in zip(first[:1], second[:1], strict=True):
        assert one.layers[1].terms["direct"] == pytest.approx(two.layers[1].terms["direct"], abs=1e-4), (
            "both start at 1"
        )
        assert one.layers[1].terms["attention_encoding"] != two.layers[1].terms["attention_encoding"]


def test_the_stages_change_the_weights_at_their_steps(tiny_llama, texts):
    steps = list(train(tiny_llama, SPEC, texts, composite(stage_steps=2), **QUICK | {"steps": 8}))
    direct = [step.layers[1].weights["direct"] for step in steps]
    assert direct == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 10, 10])


def test_more_batches_a_step_are_one_larger_batch(tiny_llama, texts):
    settings = {"steps": 1, "warmup": 0}
    one = train(tiny_llama, SPEC, texts, batch_tokens=64, **settings)
    two = train(tiny_llama, SPEC, texts, batch_tokens=32, accumulate=2, **settings)
    first, second = next(one), next(two)
    assert first.n_tokens == second.n_tokens == 64
    assert first.layers[3].total == pytest.approx(second.layers[3].total, rel=1e-5)
    assert first.layers[3].grad_norm == pytest.approx(second.layers[3].grad_norm, rel=1e-4)


def test_bfloat16_autocast_stays_close(tiny_llama, texts):
    wide, narrow = (
        list(train(tiny_llama, SPEC, texts, "direct=1,kl=1", autocast=on, **QUICK)) for on in (False, True)
    )
    assert wide[-1].total != narrow[-1].total
    assert wide[-1].total == pytest.approx(narrow[-1].total, rel=0.05)


@pytest.mark.parametrize("scheme", ["improved", "conservative", "uniform"])
def test_published_initialisations_start_a_training(tiny_llama, texts, scheme):
    spec = AdapterSpec(layers=(1,), rank=5, components=2, initialisation=scheme)
    training = train(tiny_llama, spec, texts, **QUICK)
    assert training.initial[1].modulations["gate"].W_b_up.abs().max() > 0
    *_, last = training
    assert math.isfinite(last.total)


def test_a_learning_rate_that_explodes_stops_and_keeps_the_last_good_adapter(tiny_llama, texts):
    training = train(
        tiny_llama, SPEC, texts, "direct", **QUICK | {"steps": 400, "warmup": 0}, learning_rate=9.9, clip=1e9
    )
    with pytest.raises(Diverged, match=r"direct of layer [13] is (nan|inf)"):
        for step in training:
            assert math.isfinite(step.total)
    assert list(training) == [], "it is over"
    for adapter in training.adapters.values():
        assert all(parameter.isfinite().all() for parameter in adapter.parameters())
    assert inspect(tiny_llama, training.checkpoint(), texts[0], logits=False).layers[1].relative_error.shape


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_tokens": 2}, "batch_tokens must be a whole number of at least 8"),
        ({"learning_rate": float("nan")}, "learning_rate must lie between 0 and 10, got nan"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"stream": "up"}, "stream 'up' does not exist"),
        ({"schedule": "wave"}, "schedule 'wave' does not exist"),
        ({"positions": "none"}, "positions 'none' do not exist"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_llama, texts, settings, reason):
    with pytest.raises(NptVizError, match=reason):
        train(tiny_llama, SPEC, texts, **QUICK | settings)


def test_the_settings_of_train_are_those_of_a_recipe_with_its_defaults():
    keywords = {
        name: parameter.default
        for name, parameter in inspect_module.signature(train).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for name in ("progress", "budget", "captures"):
        del keywords[name]
    assert (keywords.pop("tokens"), keywords.pop("window")) == (TOKENS, WINDOW)
    assert keywords == {each.name: each.default for each in fields(Recipe)}
    given = dict(
        zip(
            keywords,
            (7, 3, 1e-4, 5, "constant", 9, 2, 0.1, 0.5, 4, True, 3, "in_order", False, "trained"),
            strict=True,
        )
    )
    training = train(tiny_model(), SPEC, random_texts(3, 40), **given)
    assert asdict(training.recipe) == given


def test_the_schedule_warms_up_and_falls_to_a_hundredth():
    recipe = Recipe(steps=100, warmup=10, learning_rate=1e-2)
    rates = [learning_rate(step, recipe) for step in range(1, 101)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 1e-3)
    assert rates[54] == pytest.approx(1e-2 * (0.01 + 0.99 * 0.5)) and rates[-1] == pytest.approx(1e-4)
    constant = Recipe(steps=100, warmup=10, learning_rate=1e-2, schedule="constant")
    assert learning_rate(5, constant) == pytest.approx(5e-3) and learning_rate(99, constant) == 1e-2


def test_two_trainings_on_one_model_at_once_do_not_touch_each_other(tiny_llama, texts):
    from concurrent.futures import ThreadPoolExecutor

    def made(seed):
        return numbers(
            list(train(tiny_llama, SPEC, texts, "direct=1,kl=1", seed=seed, stream="end_to_end", **QUICK))
        )

    alone = [made(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(made, (1, 2)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.fixture
def lost(monkeypatch):
    """lost(layers): from now on these layers recover −0.9 of held-out text; two evaluations are enough."""
    made, layers = trainer.evaluated, set()

    def evaluated(layer, batches):
        found = made(layer, batches)
        return replace(found, recovered=-0.9) if layer in layers else found

    monkeypatch.setattr(trainer, "evaluated", evaluated)
    monkeypatch.setattr("npt_viz.training.alarms.BEGINNING", 4)
    return layers.update


LONG = QUICK | {"steps": 12, "evaluate_every": 2}


def test_a_training_of_which_nothing_can_come_ends_with_an_evaluation(tiny_llama, texts, lost, tmp_path):
    lost({1, 3})
    training = train(tiny_llama, SPEC, texts, **LONG)
    steps = list(training)
    assert len(steps) == training.done == 4 and training.has_ended
    assert [ending.kind for ending in training.endings.values()] == ["diverged", "diverged"]
    assert set(steps[-1].heldout) == {1, 3} and steps[-1].heldout[3].recovered == -0.9
    assert next(training, None) is None
    going_on = resumed(tiny_llama, save_state(training, tmp_path / "training_state.pt"))
    assert not going_on.endings and len(list(going_on)) == 4, "it is watched anew, for two more evaluations"


def test_one_layer_of_which_nothing_can_come_does_not_stop_the_other(tiny_llama, texts, lost):
    lost({3})
    training = train(tiny_llama, SPEC, texts, **LONG)
    assert len(list(training)) == 12 and not training.has_ended
    assert list(training.endings) == [3] and "layer 3 diverged" in training.endings[3].sentence


def test_in_order_a_layer_that_diverged_ends_those_above_it(tiny_llama, texts, lost):
    lost({1})
    training = train(tiny_llama, SPEC, texts, stream="in_order", **LONG)
    assert len(list(training)) == 4 and training.has_ended and set(training.adapters) == {1}


def test_a_loss_that_no_weight_reaches_has_nothing_to_learn(tiny_llama, texts):
    """W_b_up is 0 at the beginning and W_b_up·0 has no gradient: ‖ΔW‖ alone stays where it is."""
    training = train(tiny_llama, SPEC, texts, "update_norm", **QUICK | {"steps": 40, "evaluate_every": 40})
    steps = list(training)
    assert len(steps) == 20 and {ending.kind for ending in training.endings.values()} == {"nothing learned"}
    assert set(steps[-1].heldout) == {1, 3}

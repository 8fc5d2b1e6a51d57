"""Each rule on steps made by hand: it sounds once when it begins, and not on a healthy training."""

from dataclasses import replace

import numpy as np
import pytest

from npt_viz.results.training import HeldOut, LayerStep, Step, TargetStep
from npt_viz.training.alarms import PATIENCE, Watch

HEALTHY = TargetStep(
    scalar_mean=2.0,
    scalar_variance=0.09,
    v_a_norm=1.0,
    v_b_norm=1.0,
    update_norm=1.0,
    attention_similarity=0.1,
)


def layer_step(total=1.0, **changes):
    fields = {
        "terms": {"direct": total, "kl": 0.0},
        "weights": {"direct": 1.0, "kl": 0.1},
        "total": total,
        "grad_norm": 1.0,
        "grad_norms": {"direct": 1.0, "kl": 5.0},
        "targets": {"gate": HEALTHY},
    }
    return LayerStep(**fields | changes)


def heard(layer_steps, heldout=None, watch=None):
    watch = watch or Watch()
    found = []
    for number, layer in enumerate(layer_steps, 1):
        recovered = (heldout or {}).get(number)
        step = Step(number=number, learning_rate=1e-3, layers={7: layer}, seconds=0.0)
        if recovered is not None:
            evaluated = HeldOut(
                layer=7,
                recovered=recovered,
                relative_error=0.5,
                sink_recovered=0.0,
                scalar_mean=2.0,
                scalar_std=0.3,
                n_tokens=100,
            )
            step = replace(step, heldout={7: evaluated})
        found += watch.alarms(step)
    return found


def falling(n):
    return [layer_step(2 * 0.99**i) for i in range(n)]


def test_a_healthy_training_is_silent():
    assert heard(falling(500), {100: 0.3, 200: 0.4, 300: 0.39}) == []


def test_a_scalar_that_becomes_a_constant():
    dead = replace(HEALTHY, scalar_variance=1e-7)
    found = heard([*falling(30), *(replace(step, targets={"gate": dead}) for step in falling(60)[30:])])
    assert [(alarm.rule, alarm.severity, alarm.step, alarm.layer) for alarm in found] == [
        ("scalar collapse", "warning", 31, 7)
    ]
    assert "variance 1e-07, 0.09 at the start" in found[0].sentence


def test_vectors_that_vanish():
    gone = replace(HEALTHY, v_a_norm=1e-7, v_b_norm=1e-8)
    found = heard([*falling(30), *(replace(step, targets={"gate": gone}) for step in falling(60)[30:])])
    assert [(alarm.rule, alarm.severity) for alarm in found] == [("collapse", "error")]


def test_an_explosion():
    found = heard([*falling(100), *(layer_step(1e3 * 1.5**i) for i in range(30))])
    assert [alarm.rule for alarm in found] == ["explosion"] and found[0].severity == "error"
    assert 101 <= found[0].step <= 112


def test_one_batch_with_an_outlier_token_is_no_explosion():
    steps = falling(100)
    assert heard([*steps[:60], layer_step(1e4), *steps[61:]]) == []


def test_one_term_that_dominates_names_it():
    found = heard([replace(step, grad_norms={"direct": 1.0, "kl": 500.0}) for step in falling(50)])
    assert [alarm.rule for alarm in found] == ["one term dominates"]
    assert found[0].sentence.startswith("kl makes 98% of the weighted gradient")


def test_two_terms_in_conflict_name_both():
    against = np.array([[1.0, -0.8], [-0.8, 1.0]])
    found = heard(
        [replace(step, cosines=against if i % 10 == 0 else None) for i, step in enumerate(falling(50))]
    )
    assert [alarm.rule for alarm in found] == ["terms in conflict"]
    assert "direct and kl point against each other (cosine -0.80)" in found[0].sentence


def test_no_progress_is_information():
    found = heard([*falling(50), *(layer_step(1.3) for _ in range(PATIENCE + 100))])
    assert [(alarm.rule, alarm.severity) for alarm in found] == [("no progress", "info")]


def test_a_new_stage_is_no_explosion():
    later = [replace(layer_step(40.0), weights={"direct": 10.0, "kl": 1.0}) for _ in range(100)]
    assert heard([*falling(100), *later]) == []


def test_heldout_text_that_gets_worse():
    found = heard(falling(40), {10: 0.30, 20: 0.45, 30: 0.42, 40: 0.40})
    assert [(alarm.rule, alarm.step) for alarm in found] == [("held-out worse", 30)]
    assert "recovers 0.420, after 0.450 at its best" in found[0].sentence


def test_an_alarm_that_ceased_may_sound_again():
    found = heard(falling(60), {10: 0.45, 20: 0.40, 30: 0.46, 40: 0.40})
    assert [alarm.step for alarm in found] == [20, 40]


@pytest.mark.parametrize("cut", [5, 35, 120])
def test_a_watch_goes_on_from_its_saved_state(cut):
    steps = [
        *falling(30),
        *(
            replace(step, targets={"gate": replace(HEALTHY, scalar_variance=1e-7)})
            for step in falling(200)[30:]
        ),
    ]
    whole = heard(steps)
    first = Watch()
    found = heard(steps[:cut], watch=first)
    second = Watch(first.state)
    for number, layer in enumerate(steps[cut:], cut + 1):
        found += second.alarms(Step(number=number, learning_rate=1e-3, layers={7: layer}, seconds=0.0))
    assert found == whole

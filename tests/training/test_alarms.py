"""Each rule on steps made by hand: it sounds once when it begins, and not on a healthy training."""

from dataclasses import replace

import numpy as np
import pytest

from npt_viz.results.training import HeldOut, LayerStep, Step, TargetStep
from npt_viz.training.alarms import BEGINNING, EXPLODED_FOR, PATIENCE, Watch
from npt_viz.training.losses import Curriculum, composite, objective

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
    assert "it has converged, or cannot go on" in found[0].sentence


def test_a_loss_far_above_its_best_is_not_called_converged():
    found = heard([*falling(50), *(layer_step(1.9) for _ in range(PATIENCE + 100))])
    (said,) = [alarm for alarm in found if alarm.rule == "no progress"]
    assert "(it is 1.9): it cannot go on from here" in said.sentence


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


def ended(totals, shares, *, every=50, steps=1000, losses="direct", watch=None):
    """(step at which the layer ended, the ending) of a training with these totals and held-out shares; None if never."""
    watch = watch or Watch(steps=steps, objective=objective(losses) if isinstance(losses, str) else losses)
    for number, total in enumerate(totals, 1):
        recovered = {number: shares[number // every - 1]} if number % every == 0 else {}
        term = layer_step(total, terms={"direct": total}, weights={"direct": 1.0}, grad_norms={"direct": 1.0})
        heard_at(watch, number, term, recovered.get(number))
        if 7 in watch.endings:
            return number, watch.endings[7]
    return None


def heard_at(watch, number, layer, recovered=None):
    step = Step(number=number, learning_rate=1e-3, layers={7: layer}, seconds=0.0)
    if recovered is not None:
        step = replace(step, heldout={7: evaluated(recovered)})
    return watch.alarms(step)


def evaluated(recovered):
    return HeldOut(
        layer=7,
        recovered=recovered,
        relative_error=0.5,
        sink_recovered=0.0,
        scalar_mean=2.0,
        scalar_std=0.3,
        n_tokens=100,
    )


def test_a_share_that_stays_below_none_ends_the_training_after_its_beginning():
    number, ending = ended([1.0] * 20 + [3.0] * 980, [-0.9] * 20)
    assert number == BEGINNING and ending.diverged and ending.failed
    assert (
        "recovers -0.900 at its step 350 and -0.900 at 400, worse than no modulation (0)" in ending.sentence
    )
    assert "the loss on training text is 3, 1 at the start: lower the learning rate" in ending.sentence


def test_a_share_that_falls_while_the_loss_falls_is_said_to_fit_its_training_text():
    _, ending = ended([1.0] * 20 + [0.2] * 980, [-0.5] * 20)
    assert ending.diverged and "fell to 0.2, from 1, so it fits its training text alone" in ending.sentence


@pytest.mark.parametrize(
    ("shares", "losses"),
    [
        ([0.0] * 20, "direct"),
        ([-0.015] * 20, "direct"),
        ([-2 + 0.12 * i for i in range(20)], "direct"),
        ([-0.5 if i % 2 else 0.1 for i in range(20)], "direct"),
        ([-0.9] * 20, "attention_encoding"),
        ([-0.9] * 20, "decomposed:as_written"),
        ([-0.9] * 20, composite(stage_steps=334)),
        ([-0.9] * 20, objective("direct", curriculum=Curriculum(steps=(700,), quantiles=(0.5,)))),
    ],
    ids=[
        "at 0",
        "chance",
        "on its way up",
        "once below",
        "other loss",
        "other target",
        "stages",
        "curriculum",
    ],
)
def test_a_slow_start_and_other_aims_are_no_divergence(shares, losses):
    """As many steps as the stages, or as the curriculum and the beginning after it, take."""
    assert ended([1.0] * 1000, shares, losses=losses) is None


def test_a_share_that_stops_rising_below_none_ends_the_training():
    rising = [-0.5, -0.45, -0.4, -0.35, -0.3, -0.25, -0.2, -0.1]
    number, ending = ended([1.0] * 600, [*rising, -0.1, -0.1, -0.1, -0.1], steps=600)
    assert number == 450 and "recovers -0.100 at its step 400 and -0.100 at 450" in ending.sentence


def test_a_loss_that_stays_exploded_ends_the_training():
    found = ended([0.1] * 60 + [9.0] * 940, [0.0] * 20)
    assert found is not None and found[1].diverged
    assert 60 + EXPLODED_FOR < found[0] < 60 + EXPLODED_FOR + 2 * 20
    assert "more than 10 times its best (9 now, 0.1 at its best, 0.1 at the start)" in found[1].sentence


def test_a_spike_that_passes_ends_nothing():
    assert ended([0.1] * 60 + [9.0] * 50 + [0.1] * 800, [0.3] * 20) is None


def test_no_gradient_at_all_is_nothing_to_learn_and_no_divergence():
    for began, kind in ((0, "nothing learned"), (30, "nothing left")):
        watch = Watch(steps=1000, objective=objective("direct"))
        for number in range(1, 200):
            size = float(number <= began)
            heard_at(watch, number, layer_step(1.0, grad_norm=size, grad_norms={"direct": size, "kl": size}))
            if watch.endings:
                break
        ending = watch.endings[7]
        assert number == began + 20 and ending.kind == kind and not ending.diverged
        assert (
            ending.failed == (began == 0)
            and "the gradient of every loss has been exactly 0" in ending.sentence
        )


def test_worse_than_no_modulation_is_an_alarm():
    found = heard(falling(40), {10: 0.30, 20: -0.1, 30: -0.2, 40: -0.3}, watch=Watch(steps=100))
    said = [alarm for alarm in found if alarm.rule == "worse than none"]
    assert [(alarm.step, alarm.severity) for alarm in said] == [(20, "warning")]
    assert "recovers -0.100" in said[0].sentence and "1.10 times that of no modulation" in said[0].sentence


@pytest.mark.parametrize(
    ("shares", "steps", "when"),
    [
        ({10: -0.5, 20: -0.3, 30: 0.1}, 100, []),
        ({10: -0.5, 20: -0.3, 30: -0.1}, 30, [30]),
        ({10: 0.0, 20: -0.01}, 100, []),
    ],
    ids=["on its way up", "up, but over", "a start at 0"],
)
def test_a_layer_on_its_way_up_is_not_worse_until_it_is_over(shares, steps, when):
    found = heard(falling(30), shares, watch=Watch(steps=steps))
    assert [alarm.step for alarm in found if alarm.rule == "worse than none"] == when


def test_one_evaluation_below_none_is_enough_where_the_loss_rose_too():
    rose = [*(layer_step(1.0) for _ in range(20)), *(layer_step(2.0) for _ in range(20))]
    found = heard(rose, {40: -0.9}, watch=Watch(steps=1000))
    assert [alarm.rule for alarm in found] == ["worse than none"]
    assert heard(falling(40), {40: -0.9}, watch=Watch(steps=1000)) == []


def test_heldout_text_that_gets_worse_with_the_loss_is_not_called_memory():
    rising = [*falling(30), *(layer_step(5.0) for _ in range(30))]
    (found,) = [each for each in heard(rising, {20: 0.4, 60: 0.1}) if each.rule == "held-out worse"]
    assert "its loss on training text rose too, to 5 after" in found.sentence
    assert "it fits its training tokens" not in found.sentence


def test_an_ended_training_that_goes_on_nevertheless_is_watched_anew():
    watch = Watch(steps=1000, objective=objective("direct"))
    assert ended([1.0] * 1000, [-0.9] * 20, watch=watch)
    again = Watch(watch.state, steps=2000, objective=objective("direct"))
    assert again.endings
    again.begin_again()
    assert not again.endings
    heard_at(again, 1, layer_step(1.0), -0.9)
    assert not again.endings, "it may come back"


def test_an_ended_training_that_goes_on_for_one_evaluation_is_judged_with_the_one_before():
    watch = Watch(steps=1000, objective=objective("direct"))
    number, _ = ended([1.0] * 1000, [-0.9] * 20, watch=watch)
    again = Watch(watch.state, steps=number + 1, objective=objective("direct"))
    again.begin_again()
    heard_at(again, number + 1, layer_step(1.0), -0.8)
    assert again.endings[7].diverged and "recovers -0.900 at its step" in again.endings[7].sentence


def test_what_still_holds_is_told_again_after_a_training_was_resumed():
    """Whoever resumes sees only what is printed from there."""
    watch = Watch(steps=40, objective=objective("direct"))
    bad = {10: 0.3, 20: -0.4, 30: -0.5}
    assert {alarm.rule for alarm in heard(falling(30), bad, watch=watch)} == {
        "worse than none",
        "held-out worse",
    }
    silent = Watch(watch.state, steps=40, objective=objective("direct"))
    assert heard([layer_step(0.1)], {1: -0.6}, watch=silent) == []
    again = Watch(watch.state, steps=40, objective=objective("direct"))
    again.begin_again()
    assert {alarm.rule for alarm in heard([layer_step(0.1)], {1: -0.6}, watch=again)} == {
        "worse than none",
        "held-out worse",
    }

"""Settings that spoil a training are named as its cause, and no other; where nothing tells, that is said."""

import re

import pytest

from npt_viz.adapter import Semantics
from npt_viz.training.causes import not_finite, shrinking, steadier
from npt_viz.training.learner import Diverged
from npt_viz.training.recipe import Recipe
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

TEXT = "the layer reads a token and writes the next one, whatever the text says about it. "
SPEC = AdapterSpec(layers=(2,), targets=("gate",), rank=3, semantics=Semantics(attention="withheld"))


def told(tiny_llama, losses="direct=1", **settings):
    """(what is said at the end, the alarms) of 24 steps."""
    steps = dict(steps=24, batch_tokens=24, window=31, evaluate_every=24, **settings)
    training = train(tiny_llama, SPEC, [TEXT * 40], losses, **steps)
    alarms = []
    try:
        for step in training:
            alarms += step.alarms
    except Diverged as error:
        return str(error), alarms
    return "; ".join(ending.sentence for ending in training.endings.values()), alarms


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"weight_decay": 1e6}, r"lower the weight decay 1e\+06"),
        ({"clip": 1e-14}, "raise the clip 1e-14"),
        ({"warmup": 10**9}, "warm-up of 1,000,000,000 steps is longer than the training of 24"),
        ({"learning_rate": 1e-10}, "the learning rate 1e-10 allows no more; raise it"),
        ({"losses": "direct=1e-35"}, "raise the weight of direct 1e-35"),
        ({"losses": "direct=1e30"}, r"is inf with the weight of direct 1e\+30, and finite without"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_setting_that_spoils_a_training_is_named(tiny_llama, settings, cause):
    said, _ = told(tiny_llama, **settings)
    assert re.search(cause, said), said
    assert "lower the learning rate" not in said and len(said) < 300


@pytest.mark.parametrize(
    ("scale", "cause"),
    [
        (1e30, r"is inf with the gradient scale 1e\+30"),
        (1e-12, "AdamW takes for 0 .* raise the gradient scale 1e-12"),
        (1e-40, "has rounded to exactly 0, .* raise the gradient scale 1e-40"),
    ],
)
def test_an_absurd_scale_of_the_gradient_is_named(tiny_llama, scale, cause):
    from npt_viz.training.losses import objective

    said, _ = told(tiny_llama, objective("direct=1", gradient_scale=scale))
    assert re.search(cause, said) and "learning rate" not in said, said


def test_an_ordinary_training_is_told_nothing(tiny_llama):
    assert told(tiny_llama, warmup=24) == ("", [])


def test_a_warmup_that_outlasts_the_training_is_said_where_it_learns_all_the_same(tiny_llama):
    said, alarms = told(tiny_llama, warmup=48)
    assert said == "" and [(alarm.rule, alarm.step) for alarm in alarms] == [("warm-up", 1)]
    assert "ends at 0.0015 and never reaches 0.003" in alarms[0].sentence


def test_strong_decay_is_named_where_the_modulation_vanishes(tiny_llama):
    _, alarms = told(tiny_llama, weight_decay=330.0)
    vanished = [alarm.sentence for alarm in alarms if "collapse" in alarm.rule]
    assert vanished and all("the weight decay 330 takes 99% of every weight a step" in s for s in vanished)


def test_what_cannot_be_told_is_called_so():
    recipe = Recipe()
    calm = not_finite(recipe, "direct", losses={"direct": 1.0}, taken=True, grown=1.2)
    assert "the cause cannot be told" in calm and "the weight of direct" not in calm
    assert "the weight of kl" in not_finite(
        recipe, "kl", losses={"direct": 1.0, "kl": 1.0}, taken=True, grown=1.0
    )
    assert "no step was taken yet" in not_finite(recipe, "direct", losses={}, taken=False, grown=1.0)
    blown = not_finite(recipe, "direct", losses={}, taken=True, grown=99.0)
    assert blown == "its weights have 99 times the norm of the start: lower the learning rate 0.003"
    assert "the cause cannot be told" in shrinking(recipe, {"direct": 1.0, "regularisation": 0.0})
    assert shrinking(None, {"update_norm": 1.0, "regularisation": 1.0}).startswith(
        "lower the weight of regularisation and of update_norm"
    )


def test_decay_below_twice_the_step_makes_nothing_grow():
    assert steadier(Recipe(learning_rate=0.01, weight_decay=199.0)) == "lower the learning rate"
    assert "multiplies every weight by -1.01 a step" in steadier(
        Recipe(learning_rate=0.01, weight_decay=201.0)
    )

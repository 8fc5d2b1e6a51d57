"""What a person may write for the losses, and what is refused with which words."""

import pytest

from npt_viz.errors import NptVizError
from npt_viz.training.losses import TERMS, Objective, composite, losses_text, objective


def test_text_mappings_and_names_mean_the_same():
    text = objective("direct=1, orthogonality=0.01,guidance:as_written=2")
    assert text == objective({"direct": 1, "orthogonality": 0.01, "guidance:as_written": 2})
    assert text.active == {"direct": 1.0, "orthogonality": 0.01, "guidance": 2.0}
    assert [text.form(name) for name in text.active] == ["corrected", "corrected", "as_written"]
    assert objective(["direct", "kl"]) == objective("direct,kl") == objective({"direct": 1, "kl": 1})
    assert objective(text) is text
    assert objective("direct:corrected=1") == objective("direct")


@pytest.mark.parametrize("losses", ["direct=2", {"direct": 2}, objective("direct=2", stage_steps=3)])
def test_settings_go_with_every_kind_of_losses(losses):
    read = objective(losses, stage_steps=1, adaptive="gradient_norms")
    assert read == Objective(weights={"direct": 2.0}, stage_steps=1, adaptive="gradient_norms")


def test_an_objective_is_written_as_the_text_that_reads_as_it():
    assert losses_text(objective({"direct": 1, "guidance:as_written": 0.25, "kl": 0})) == (
        "direct=1,guidance:as_written=0.25"
    )
    for weights in ({"kl": 1e-7}, {"kl": 1e20, "direct": 0.1 + 0.2}, composite().weights):
        assert objective(losses_text(objective(weights))) == objective(weights)


def test_a_loss_of_weight_zero_is_off():
    assert objective("direct=1,kl=0").active == {"direct": 1.0}
    assert not objective("direct=1,kl=0").needs_logits


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ("", "no loss is active"),
        ("direct=0", "no loss is active"),
        ("direct=-1", "weight of loss 'direct' must be 0 or more"),
        ("direct=nan", "got nan"),
        ("direct=inf", "got inf"),
        ("guidence=1", "loss 'guidence' does not exist; did you mean guidance. The losses are direct, "),
        ("magic=1", "loss 'magic' does not exist; choose among direct, "),
        ("direct=much", "must be NAME=WEIGHT"),
        ("direct=1,direct=5", "loss 'direct' is named twice"),
        ("direct=1,direct:as_written=1", "named twice"),
        ({"direct": True}, "got True"),
        ("kl:as_written=1", "loss 'kl' has no as_written form; the losses with two forms are direct, "),
        ("direct:right=1", "form after the colon"),
    ],
)
def test_what_is_refused(losses, reason):
    with pytest.raises(NptVizError, match=reason):
        objective(losses)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("adaptive", "yes"),
        ("stage_steps", 0),
        ("gradient_scale", 0.0),
        ("gradient_scale", float("inf")),
        ("gradient_scale", float("nan")),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value):
    with pytest.raises(NptVizError, match=field):
        Objective(weights={"direct": 1.0}, **{field: value})


def test_the_composite_has_the_published_weights_and_stages():
    assert composite().weights_after(0)["direct"] == 0.1
    assert composite().weights_after(3000)["direct"] == 10
    assert composite(stage_steps=None).weights_after(0)["attention_encoding"] == 5
    assert composite(stage_steps=20).weights_after(60)["direct"] == 10


def test_adaptive_as_written_is_uniform_whatever_was_asked_for():
    assert composite(adaptive="as_written").weights_after(0) == dict.fromkeys(composite().active, 1 / 6)


def test_the_losses_with_two_forms_are_those_that_are_wrong_as_published():
    assert {name for name, term in TERMS.items() if term.as_written} == {
        "direct",
        "guidance",
        "decomposed",
        "orthogonality",
    }

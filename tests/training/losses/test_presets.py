"""Preset objectives against the recipes of docs/mathematics.md §10, written out by hand."""

import pytest

from npt_viz.training.losses import TERMS, Curriculum, losses_text, objective
from npt_viz.training.losses.presets import PRESETS, as_written_and_corrected, each_alone, leave_one_out


@pytest.mark.parametrize(
    ("phase", "losses"),
    [
        (1, "direct=1,guidance=0.2"),
        (2, "direct=1,guidance=0.2,bottleneck=0.05,decomposed=1"),
        (3, "direct=1,guidance=0.2,bottleneck=0.05,decomposed=1,consistency=0.1"),
        (4, "direct=1,guidance=0.2,bottleneck=0.05,decomposed=1,consistency=0.1,orthogonality=0.01"),
    ],
)
def test_a_published_phase_adds_its_losses_to_those_of_the_phases_before(phase, losses):
    preset = PRESETS[f"published phase {phase}"]
    assert losses_text(preset) == losses and preset.as_written == frozenset()
    assert preset.adaptive == "gradient_norms" and preset.stage_steps is None
    assert preset.curriculum == (Curriculum() if phase >= 3 else None)


def test_each_loss_alone_weighs_one():
    assert {name: losses_text(each) for name, each in each_alone().items()} == {
        name: f"{name}=1" for name in TERMS
    }


def test_leaving_one_out_keeps_the_other_losses_and_every_setting():
    whole = objective("direct=10,guidance:as_written=2,kl=0", stage_steps=7)
    assert leave_one_out(whole) == {
        "without direct": objective("guidance:as_written=2", stage_steps=7),
        "without guidance": objective("direct=10", stage_steps=7),
    }
    assert leave_one_out(objective("direct=10,kl=0")) == {}


def test_both_forms_of_a_loss_and_the_one_form_of_another():
    assert as_written_and_corrected("guidance") == {
        "guidance, corrected": objective("guidance"),
        "guidance, as written": objective("guidance:as_written"),
    }
    assert as_written_and_corrected("kl") == {"kl, corrected": objective("kl")}

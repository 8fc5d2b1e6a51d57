"""What is said of checkpoints that were made to have a fault, and of healthy ones, held against the literal Llama."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from faults import FAULTS, HEALTHY
from sentence_checker import GRAMMAR, Refused, check
from specimen_pages import judged, of_pages
from stated_layers import of_probe

from npt_viz.results.health import RULES

CHEAP = {
    "NaN", "nothing loaded", "vanishing", "sign turned", "W_b_up exchanged", "another layer", "v_b shuffled", "one direction",
    "four times too large", "N4 read as N3",
}  # fmt: skip
"""Specimens of few trainings; `PYTHONPATH=.:tests python tests/specimen_pages.py` runs all of them."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "specimen", [each for each in (*FAULTS, *HEALTHY) if each.name in CHEAP], ids=lambda each: each.name
)
def test_every_sentence_about_a_specimen_is_true(specimen):
    n_checked, false = judged(specimen)
    assert n_checked >= 2 and not false, "\n".join(false)


def test_every_rule_of_health_has_a_clause():
    assert {name.removeprefix("health: ") for name in GRAMMAR if name.startswith("health: ")} == set(RULES)


def test_a_finding_of_another_cause_or_share_is_refused():
    said = next(each for each in of_probe() if each.case == "turned")
    check("health: sign_flipped", said.sentence, said.data)
    with pytest.raises(Refused):
        check("health: wrong_size", said.sentence, said.data)
    text = str(said.sentence)
    numbers = [*re.finditer(r"\d+(?=\N{NO-BREAK SPACE}%)", text)]
    assert len(numbers) >= 6
    for each in numbers:
        other = f"{text[: each.start()]}{(int(each[0]) + 7) % 100}{text[each.end() :]}"
        if "95" not in each[0]:
            with pytest.raises(Refused):
                check("health: sign_flipped", other, said.data)


def test_findings_about_a_file_are_held_against_its_report():
    load = SimpleNamespace(unused=("ema.x", "ema.y"), tensors_total=11, tensors_used=9)
    sentence = "2 of 11 tensors belong to no NPT layer that was recognised, the first is ema.x: a part of what was trained may not run."
    check("health: left_over", sentence, {"load": load})
    for wrong in (
        sentence.replace("2 of", "3 of"),
        sentence.replace("11", "12"),
        sentence.replace("ema.x", "ema.y"),
    ):
        with pytest.raises(Refused):
            check("health: left_over", wrong, {"load": load})


@pytest.mark.slow
def test_a_yardstick_that_other_draws_do_not_give_is_refused():
    """The checker draws random weights and other tokens anew; what it believes otherwise, it refuses once it is shifted."""
    made = next(each for each in HEALTHY if each.name == "N1")
    said = next(each for each in of_pages(made) if each.name == "directions")
    result, text = said.data["result"], str(said.sentence)
    check("directions", said.sentence, said.data)
    (used,) = re.findall(r"(\d+\.\d) if its weights were redrawn", text)
    (other,) = re.findall(r"other tokens (-?\d\.\d\d)", text)
    verdicts = tuple(
        replace(each, evidence={**each.evidence, "redrawn adapter": float(used) + 3})
        if each.name == "s·v_b"
        else each
        for each in result.verdicts
    )
    shifted = result.exact.shuffled._replace(mean=float(other) + 0.3)
    for wrong, shown in (
        (replace(result, verdicts=verdicts), text.replace(f"{used} if its", f"{float(used) + 3:.1f} if its")),
        (
            replace(result, exact=replace(result.exact, shuffled=shifted)),
            text.replace(f"other tokens {other}", f"other tokens {float(other) + 0.3:.2f}"),
        ),
    ):
        with pytest.raises(Refused):
            check("directions", shown, said.data | {"result": wrong})
        # Believed without other draws, it would have passed.
        check("directions", shown, said.data | {"result": wrong, "redrawn": None, "others": None})

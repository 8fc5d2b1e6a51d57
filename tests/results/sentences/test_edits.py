"""What is said of edits, files and parity of many variants, held against dense weights; and falsehoods, which are refused."""

import re

import pytest
from sentence_checker import Refused, check, turned, wrong_numbers
from specimen_edits import PLANTED, SPECIMENS, Edited, of_edit, of_files, of_native, of_parity, of_trust
from specimen_pages import refused


def held(found) -> None:
    """Every sentence is true, and each with another number or the opposite word is not."""
    found = [*found]
    false = refused(found)
    assert found and not false, "\n".join(false)
    for said in found:
        text = str(said.sentence)
        for each in (*wrong_numbers(text), *turned(text)):
            with pytest.raises(Refused):
                check(said.name, each, said.data)
                raise LookupError(each)


@pytest.mark.parametrize(
    "each", [Edited("N1", rank=2, components=2), Edited("S1-add", alpha=2.0)], ids=lambda each: each.variant
)
def test_what_is_said_of_an_edit_is_true(each):
    held(of_edit(each))


@pytest.mark.slow
@pytest.mark.parametrize("each", SPECIMENS, ids=lambda each: each.name)
def test_what_is_said_of_every_specimen_is_true(each):
    held(of_edit(each))


def test_what_is_said_of_files_and_their_base_is_true():
    held(of_files())
    held(of_native())


@pytest.mark.parametrize("broken", ("", *PLANTED))
def test_parity_says_what_is_planted(broken):
    said = of_parity("N4", broken)
    check(said.name, said.sentence, said.data)
    assert ("Parity is broken" in str(said.sentence)) == bool(broken)
    other = (
        str(said.sentence).replace("holds in all", "is broken: 1 of")
        if not broken
        else re.sub(r"is broken: \d+ of", "holds in all of", str(said.sentence))
    )
    with pytest.raises(Refused):
        check(said.name, other, said.data)


@pytest.mark.slow
def test_parity_of_every_variant_is_what_is_computed_anew():
    assert not refused([*of_trust()])

"""The ledger of a browser: kept as a recipe, brought back for the same base, undone and brought back."""

import json

import pytest

import npt_viz
from npt_viz.ui.cache import owner as owners
from npt_viz.ui.cache.opened import opened_model

FACT = "The cat is blue. The cat is"


@pytest.fixture
def page(app):
    """The page of a browser that has its id."""
    found = app("permanent_update", prompt=FACT, layer="3", tok="26")
    found.session_state["_owner"].last()
    return found


def said(page) -> str:
    return "\n".join(each.value for each in [*page.markdown, *page.caption]).replace("\\", "")


def applied(page, *strengths):
    for strength in strengths:
        page.number_input(key="edit_alpha").set_value(strength).run()
        page.button(key="edit_apply").click().run()
    assert not page.exception and not page.error
    return page


def labels(page) -> list[str]:
    return [each.label for each in page.button]


def recipe(page):
    owners.flush()
    (file,) = page.session_state["_owner"].folder.ledgers.glob("*.npt_edits.json")
    return file


def reopened(page, app, on_disk):
    """A new session of the same browser in a process that remembers nothing."""
    owners.flush()
    again = owners.Owner("1" * 32, owners.workspace())
    again.folder.path = page.session_state["_owner"].folder.path
    again._read()
    again.last()
    found = app("home")
    found.session_state["_owner"] = again
    found.run()
    return found


def test_what_is_applied_is_a_recipe_on_disk(page, on_disk):
    applied(page, 1.0, 3.0)
    model = npt_viz.open_model(on_disk.model)
    from npt_viz.editing.files.recipe import updates_from_recipe

    updates = updates_from_recipe(recipe(page), model)
    assert [update.alpha for update in updates] == [1.0, 3.0]


def test_a_server_that_starts_anew_has_the_ledger_with_its_numbers(page, app, on_disk):
    applied(page, 1.0, 3.0, 5.0)
    page.button(key="ledger_undo_2").click().run()
    before = [entry.update.digest() for entry in ledger_of(page, on_disk).entries]
    found = reopened(page, app, on_disk)
    assert "#1: npt" in said(found) and "#3: npt" in said(found) and "#2:" not in said(found)
    found.switch_page("pages/permanent_update.py").run()
    assert not found.exception and not found.error
    ledger = ledger_of(found, on_disk)
    assert [entry.number for entry in ledger.entries] == [1, 3]
    assert [entry.update.digest() for entry in ledger.entries] == before
    applied(found, 7.0)
    assert "#4: npt" in said(found), "a number is never used again"
    found.button(key="ledger_undo_1").click().run()
    assert [entry.number for entry in ledger.entries] == [3, 4]


def ledger_of(page, on_disk):
    (found,) = page.session_state["_owner"].shared("_ledgers", dict).of_base.values()
    return found


def test_an_undo_is_brought_back(page, on_disk):
    applied(page, 1.0, 3.0)
    before = ledger_of(page, on_disk).entries
    page.button(key="ledger_undo_1").click().run()
    assert "Undone: bring 1 update back" in labels(page)
    page.button(key="ledger_bring_back").click().run()
    assert ledger_of(page, on_disk).entries == before and "ledger_bring_back" not in keys(page)
    assert len(json.loads(recipe(page).read_text())["edits"]) == 2


def test_an_undo_is_brought_back_by_a_server_that_starts_anew(page, app, on_disk):
    applied(page, 1.0, 3.0)
    before = [entry.update.digest() for entry in ledger_of(page, on_disk).entries]
    page.button(key="ledger_undo_1").click().run()
    found = reopened(page, app, on_disk)
    assert "Undone: bring 1 update back" in labels(found) and "#1: npt" not in said(found)
    found.button(key="ledger_bring_back").click().run()
    assert not found.exception and not found.error
    ledger = ledger_of(found, on_disk)
    assert [entry.number for entry in ledger.entries] == [1, 2]
    assert [entry.update.digest() for entry in ledger.entries] == before
    assert "ledger_bring_back" not in keys(reopened(found, app, on_disk))


def keys(page) -> set[str]:
    return {each.key for each in page.button}


def test_undoing_all_is_asked_once_and_brought_back_on_any_page(page, on_disk):
    applied(page, 1.0, 3.0)
    assert "Take all 2 updates back" in labels(page)
    page.button(key="ledger_undo_all").click().run()
    page.switch_page("pages/tokens.py").run()
    assert "#1:" not in said(page) and json.loads(recipe(page).read_text())["edits"] == []
    page.button(key="ledger_bring_back").click().run()
    assert "#1: npt" in said(page) and "#2: npt" in said(page)


def test_applying_after_an_undo_ends_the_offer(page):
    applied(page, 1.0)
    page.button(key="ledger_undo_1").click().run()
    applied(page, 3.0)
    assert "ledger_bring_back" not in keys(page)


def test_two_browsers_have_two_ledgers(page, app):
    applied(page, 1.0)
    other = app("permanent_update", prompt=FACT, layer="3", tok="26")
    assert "#1:" not in said(other) and "No permanent update is in the ledger." in said(other)


def test_a_ledger_of_another_base_is_set_aside_and_said(page, app, on_disk):
    applied(page, 1.0)
    file = recipe(page)
    content = json.loads(file.read_text())
    content["edits"][0]["alpha"] = 2.0
    file.write_text(json.dumps(content))
    found = reopened(page, app, on_disk)
    found.switch_page("pages/permanent_update.py").run()
    found.run()
    assert "No permanent update is in the ledger." in said(found) and not found.exception
    assert any("was set aside" in each.value.replace("\\", "") for each in found.toast)
    (aside,) = file.parent.iterdir()
    assert json.loads(aside.read_text()) == content, "what was kept is not lost"


def test_a_model_that_is_opened_anew_takes_the_ledger_over(page, on_disk):
    applied(page, 1.0)
    opened_model.clear()
    page.run()
    assert not page.exception and [entry.number for entry in ledger_of(page, on_disk).entries] == [1]

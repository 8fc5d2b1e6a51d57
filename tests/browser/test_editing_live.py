"""Permanent updates and transplants in a real Chromium: clicks in the sweep, files there and back, the keyboard."""

import json
import re

import pytest
from onpage import at_rest
from playwright.sync_api import expect

from npt_viz.editing.judging.sweep import default_alphas

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 120_000


def button(tab, key):
    return tab.locator(f".st-key-{key} button").first


def ledger(tab, count):
    """Wait until the head counts so many updates."""
    expect(button(tab, "head_ledger")).to_contain_text(str(count), timeout=PATIENCE)


def test_a_click_on_a_point_of_the_sweep_takes_its_strength(visit, server):
    tab = visit(server, "permanent_update")
    tab.locator(".st-key-edit_fact input").click()
    tab.get_by_role("option", name="Bees make").click()
    tab.get_by_text("Writing the update of").wait_for()
    chart = tab.locator(".st-key-edit_sweep_chart .js-plotly-plot")
    chart.or_(button(tab, "edit_sweep_run")).first.wait_for()
    if not chart.count():
        button(tab, "edit_sweep_run").click()
        chart.wait_for()
    at_rest(tab)
    box = chart.locator(".scatterlayer .trace").first.locator(".point").nth(15).bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wanted = f"{default_alphas(n=21)[15]:g}"
    expect(tab.locator(".st-key-edit_alpha input")).to_have_value(wanted, timeout=PATIENCE)
    tab.get_by_text(f"at α = {wanted} moves").wait_for()


def test_an_edit_is_applied_downloaded_undone_and_brought_back(visit, server, tmp_path):
    tab = visit(server, "permanent_update", tok=5)
    button(tab, "edit_apply").click()
    ledger(tab, 1)
    tab.get_by_text("It is in the ledger already (#1)").wait_for()
    tab.locator("summary", has_text="Take the edited model away").click()
    with tab.expect_download() as download:
        button(tab, "edit_recipe").click()
    download.value.save_as(tmp_path / "edits.json")
    assert len(json.loads((tmp_path / "edits.json").read_text(encoding="utf-8"))["edits"]) == 1
    tab.get_by_role("link", name="Tokens").click()
    tab.locator(".st-key-prompt_view button.token").first.wait_for()
    button(tab, "head_ledger").click()
    tab.get_by_role("button", name="Undo", exact=True).click()
    button(tab, "ledger_undo_1").click()
    ledger(tab, 0)
    tab.get_by_role("link", name="Permanent update").click()
    tab.locator("summary", has_text="Bring edits back").click()
    tab.locator(".st-key-edit_import input[type=file]").set_input_files(tmp_path / "edits.json")
    button(tab, "edit_import_add").click()
    ledger(tab, 1)
    tab.get_by_text("1 edit added.").wait_for()


def test_both_tokens_of_a_transplant_are_chosen_by_keyboard(visit, server):
    tab = visit(server, "transplant", tok=2)
    said = tab.get_by_text(re.compile("^The ΔW of"))
    said.filter(has_text=re.compile(r"#2 at")).wait_for()
    donor, receiver = (
        tab.locator(f".st-key-{key} button.token") for key in ("prompt_view", "transplant_view")
    )
    receiver.first.wait_for()
    donor.nth(2).focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    last = receiver.count() - 1
    said.filter(has_text=re.compile(rf"#3 at .* #{last} in .* moves")).wait_for()
    # A strip that is drawn anew loses the focus.
    tab.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    receiver.last.focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Space")
    said.filter(has_text=re.compile(r"#3 at .* #1 in .* moves")).wait_for()
    expect(receiver.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(donor.nth(3)).to_have_attribute("aria-pressed", "true")

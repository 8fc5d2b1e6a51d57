"""A training in a real Chromium: it refreshes by itself, stops at once, survives leaving the page."""

import time

import pytest
from onpage import at_rest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENDLESS = "1000000"
PATIENCE = 120_000


def button(tab, name):
    return tab.locator(f".st-key-training_{name} button").first


def begun(visit, server):
    """A tab with a training that would not end by itself."""
    tab = visit(server, "training")
    tab.get_by_role("tab", name="Schedule").click()
    tab.get_by_text("held out").wait_for()
    at_rest(tab)
    steps = tab.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill(ENDLESS)
    steps.press("Enter")
    at_rest(tab)
    expect(steps).to_have_value(ENDLESS)
    button(tab, "start").click()
    tab.get_by_text("of 1,000,000, ").wait_for()
    return tab


def step(tab) -> int:
    # The text is not there for a moment while the fragment is drawn anew.
    said = tab.wait_for_function(
        "document.querySelector('.stProgress')?.innerText.match(/step ([0-9,]+) of/)?.[1]"
    )
    return int(said.json_value().replace(",", ""))


def test_start_draws_curves_that_move_and_stop_stops(visit, server):
    tab = begun(visit, server)
    tab.locator(".st-key-training_panel_losses .js-plotly-plot .lines path").first.wait_for()
    before = step(tab)
    while step(tab) <= before + 20:
        tab.wait_for_timeout(100)
    button(tab, "stop").click()
    tab.get_by_text("stopped after").wait_for()
    expect(button(tab, "start")).to_be_enabled(timeout=PATIENCE)
    expect(button(tab, "stop")).to_be_disabled()
    said = tab.locator(".stProgress").inner_text()
    time.sleep(2.5)
    assert tab.locator(".stProgress").inner_text() == said


def test_leaving_and_returning_keeps_it_and_a_second_tab_has_its_own(visit, server):
    first = begun(visit, server)
    second = begun(visit, server)
    button(second, "stop").click()
    second.get_by_text("stopped after").wait_for()
    before = step(first)
    first.get_by_role("link", name="Tokens").click()
    first.locator(".st-key-prompt_view button.token").first.wait_for()
    first.get_by_role("link", name="Training").click()
    first.get_by_text("steps a second").wait_for()
    assert step(first) > before
    button(first, "stop").click()
    first.get_by_text("stopped after").wait_for()

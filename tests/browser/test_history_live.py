"""History in a real Chromium: what was inspected is there after a reload, is shown, and reopens as it was."""

from urllib.parse import parse_qs, urlsplit

import pytest
from onpage import at_rest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 120_000
PROMPT, OTHER = "The <b>old</b> cat is asleep", "Another prompt."


def rows(tab):
    return tab.locator("[class*=st-key-history_row_] button")


def answer(tab) -> str:
    return tab.locator(".st-key-answer").inner_text()


def test_an_inspected_prompt_is_found_again_shown_and_reopened(visit, server):
    tab = visit(server, "tokens", prompt=PROMPT, layer=1, mode="propagated")
    tab.locator(".st-key-prompt_view button.token").first.wait_for()
    at_rest(tab)
    said = answer(tab)
    tab.locator(".st-key-prompt_view button", has_text="Edit").click()
    tab.locator(".st-key-prompt_view textarea").fill(OTHER)
    tab.keyboard.press("Control+Enter")
    expect(tab.locator(".st-key-prompt_view button.token")).to_have_count(len(OTHER), timeout=PATIENCE)
    at_rest(tab)
    tab.get_by_role("link", name="History").click()
    expect(rows(tab)).to_have_count(2, timeout=PATIENCE)
    assert rows(tab).all_inner_texts() == [OTHER, PROMPT], "as they are, without markup"
    tab.reload()
    expect(rows(tab)).to_have_count(2, timeout=PATIENCE)
    # A click anywhere in the row, also on its picture.
    picture = tab.locator(".npt-past img").nth(1)
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 96
    box = picture.bounding_box()
    tab.mouse.click(box["x"] + 10, box["y"] + 10)
    tokens = tab.locator(".st-key-history_view button.token")
    expect(tokens).to_have_count(len(PROMPT), timeout=PATIENCE)
    at_rest(tab)
    assert answer(tab) == said
    tokens.nth(2).click()
    expect(tokens.nth(2)).to_have_attribute("aria-pressed", "true")
    at_rest(tab)
    tab.get_by_role("link", name="Reopen").click()
    expect(tab.locator(".st-key-prompt_view button.token")).to_have_count(len(PROMPT), timeout=PATIENCE)
    at_rest(tab)
    found = {name: values[0] for name, values in parse_qs(urlsplit(tab.url).query).items()}
    assert (found["prompt"], found["layer"], found["mode"]) == (PROMPT, "1", "propagated")
    assert urlsplit(tab.url).path == "/tokens" and "entry" not in found and answer(tab) == said

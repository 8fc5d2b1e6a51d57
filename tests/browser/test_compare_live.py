"""Compare in a real Chromium: a view is pinned as A on one page, another is compared with it, and a link shows the same."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from onpage import at_rest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 120_000
PROMPT, OTHER = "The old cat is asleep", "The new cats is asleep."


def button(tab, key):
    return tab.locator(f".st-key-{key} button").first


def said(tab) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(tab.url).query).items()}


def test_a_view_is_pinned_and_another_is_compared_with_it(visit, server):
    tab = visit(server, "tokens", prompt=OTHER, layer=3, metric="cosine")
    tab.locator(".st-key-prompt_view button.token").first.wait_for()
    at_rest(tab)
    button(tab, "head_compare").click()
    button(tab, "pin_as_a").click()
    tab.get_by_text("Pinned as A: npt-tiny, layer 3, local, deployed, “The new cats is asleep.”").wait_for()
    tab.keyboard.press("Escape")
    at_rest(tab)
    # Another prompt, in place.
    tab.locator(".st-key-prompt_view button", has_text="Edit").click()
    tab.locator(".st-key-prompt_view textarea").fill(PROMPT)
    tab.keyboard.press("Control+Enter")
    tab.wait_for_function("text => location.search.includes(text)", arg="a_prompt=")
    at_rest(tab)
    button(tab, "head_compare").click()
    tab.get_by_role("link", name="Compare with A").click()
    answer = tab.locator(".st-key-answer")
    expect(answer).to_contain_text("cosine of layer 3", timeout=PATIENCE)
    expect(answer).to_contain_text("18 aligned tokens, 5 only in A, 3 only in B")
    assert said(tab)["a_prompt"] == OTHER and said(tab)["prompt"] == PROMPT
    tokens = tab.locator(".st-key-prompt_view button.token")
    expect(tokens).to_have_count(26)
    assert tab.locator(".st-key-prompt_view button.token.deleted").all_inner_texts() == [
        "−n",
        "−e",
        "−w",
        "−s",
        "−.",
    ]
    # A pin shows at once, and says what both expect next.
    tab.locator(".st-key-main_figure .js-plotly-plot").wait_for()
    at_rest(tab)
    assert tokens.nth(13).inner_text() == "t" and tokens.nth(13).get_attribute("aria-pressed") == "false"
    tokens.nth(13).click()
    expect(tokens.nth(13)).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("table[aria-label='next tokens of A and B'] th").first).to_have_text(
        "next after t, A", timeout=PATIENCE
    )
    tokens.nth(4).click()
    expect(tab.locator("table[aria-label='next tokens of A and B'] th").first).to_have_text(
        re.compile("only in A, A$"), timeout=PATIENCE
    )
    expect(tokens.nth(4)).to_have_attribute("aria-pressed", "true")
    words = answer.inner_text()
    # A colleague opens the link.
    at_rest(tab)
    address = said(tab)
    again = visit(
        server,
        "compare",
        **{name: text for name, text in address.items() if name not in ("model", "checkpoint")},
    )
    expect(again.locator(".st-key-answer")).to_have_text(words, timeout=PATIENCE)
    # And exchanges the two.
    at_rest(again)
    button(again, "a_swap").click()
    expect(again.locator(".st-key-answer")).to_contain_text("3 only in A, 5 only in B", timeout=PATIENCE)

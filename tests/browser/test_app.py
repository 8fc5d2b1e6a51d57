"""The app in a real Chromium: what AppTest cannot see. Clicks, keys, cold starts, what reaches the screen."""

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from onpage import LAYERS, at_rest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARKUP = "<b>x</b> **y** :red[z] $q$ :smile:"


def settled(tab) -> None:
    """Everything is drawn and nothing is left of the run before: what is below the card comes last."""
    tab.locator(".st-key-pinned_card h2").wait_for()
    tab.get_by_text("Carry away").first.wait_for()
    tab.wait_for_function(
        "!document.querySelector('[data-testid=stStatusWidget], [data-stale=true] .npt-table')"
    )


def address(tab) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(tab.url).query).items()}


def wait_for_address(tab, **said) -> None:
    for name, value in said.items():
        tab.wait_for_url(lambda url, n=name, v=value: parse_qs(urlsplit(url).query).get(n) == [str(v)])


def ask(tab, prompt: str) -> None:
    """Edit the prompt in place and inspect it."""
    at_rest(tab)
    tab.locator(".npt-view .edit").first.click()
    tab.locator(".npt-view .editor").fill(prompt)
    tab.keyboard.press("Control+Enter")


def card_title(tab) -> str:
    return tab.locator(".st-key-pinned_card h2").inner_text()


def test_a_cold_deep_link_is_framed_and_paints_before_the_model_is_loaded(visit, cold_server):
    tab = visit(cold_server, tok=3, layer=1)
    tab.locator("button.token").first.wait_for()
    tab.wait_for_function("Object.keys(seen).length === 3")
    seen = tab.evaluate("seen")
    print("first seen (s):", {name: round(at, 2) for name, at in seen.items()})
    assert max(seen["head"], seen["title"]) < seen["tokens"]
    settled(tab)
    assert tab.locator(".npt-title h1").inner_text() == "Tokens"
    assert "token 3 of" in card_title(tab) and "layer 1" in card_title(tab)
    assert address(tab)["tok"] == "3"
    assert tab.locator("[data-testid=stSidebarNavLink]").filter(has_text="Tokens").count() == 1
    assert tab.get_by_text("Page not found").count() == 0


def test_clicking_a_token_pins_it_on_the_page_and_in_the_address(visit, server):
    tab = visit(server)
    settled(tab)
    tab.locator("button.token").nth(7).click()
    wait_for_address(tab, tok=7)
    tab.get_by_text(re.compile("token 7 of")).wait_for()
    assert tab.locator("button.token[aria-pressed=true]").count() == 1
    assert tab.locator("button.token").nth(7).get_attribute("aria-pressed") == "true"


def test_the_strip_works_by_keyboard_and_is_one_stop_for_tab(visit, server):
    tab = visit(server, tok=2)
    settled(tab)
    tokens = tab.locator("button.token")
    assert tab.locator("button.token[tabindex='0']").count() == 1
    tokens.nth(2).focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    wait_for_address(tab, tok=3)
    tokens.nth(3).and_(tab.locator("[aria-pressed=true]")).wait_for()
    for key, index in (("End", tokens.count() - 1), ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1)):
        tab.keyboard.press(key)
        focused = tab.evaluate_handle(
            "() => { let e = document.activeElement; while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement; return e }"
        )
        assert focused.evaluate(
            "(e, i) => [...e.getRootNode().querySelectorAll('button.token')].indexOf(e) === i", index
        ), key
    tab.keyboard.press("Space")
    wait_for_address(tab, tok=1)


def test_pointing_at_a_token_shows_all_its_numbers_as_text(visit, server):
    tab = visit(server, prompt=MARKUP)
    settled(tab)
    tab.locator("button.token").nth(0).hover()
    tip = tab.locator(".tip")
    tip.get_by_text("token 0").wait_for()
    for label in ("scalar v_a·z", "share recovered", "cosine", "KL(base ‖ NPT)", "next, base"):
        assert tip.get_by_text(label, exact=True).count() == 1, label
    assert tip.locator("b").count() == 0


def click_cell(tab, column: int, row: int, *, columns: int, rows: int) -> None:
    """Into a cell of the map; rows count from below."""
    left, top, height, width = tab.locator(".npt-view").first.evaluate(
        """(host) => { const { plots: { place, scroller } } = host.view, box = scroller.getBoundingClientRect()
        return [box.left, box.top + place.map.top, place.map.height, place.column] }"""
    )
    tab.mouse.click(left + (column + 0.5) * width, top + height * (rows - row - 0.5) / rows)


def test_clicking_a_cell_of_the_map_pins_its_layer_and_token(visit, server):
    tab = visit(server, prompt="abcdefghijkl", layer=3, tok=0)
    settled(tab)
    click_cell(tab, 5, 0, columns=12, rows=len(LAYERS))
    wait_for_address(tab, tok=5, layer=LAYERS[0])
    tab.get_by_text(re.compile(f"token 5 of 12, layer {LAYERS[0]}")).wait_for()


def test_a_cell_can_be_pinned_again_after_another_token_was(visit, server):
    tab = visit(server, prompt="abcdefghijkl", tok=0)
    settled(tab)
    click_cell(tab, 5, 1, columns=12, rows=len(LAYERS))
    wait_for_address(tab, tok=5)
    settled(tab)
    tab.locator("button.token").nth(8).click()
    wait_for_address(tab, tok=8)
    settled(tab)
    click_cell(tab, 5, 1, columns=12, rows=len(LAYERS))
    wait_for_address(tab, tok=5)


def test_the_pin_survives_another_page_and_a_reload(visit, server):
    tab = visit(server)
    settled(tab)
    tab.locator("button.token").nth(9).click()
    wait_for_address(tab, tok=9)
    tab.locator("[data-testid=stSidebarNavLink]").filter(has_text="Home").click()
    tab.get_by_text("What is open, and can I trust it?").wait_for()
    tab.locator("button.token").nth(9).and_(tab.locator("[aria-pressed=true]")).wait_for()
    wait_for_address(tab, tok=9)
    tab.reload()
    tab.locator("button.token").nth(9).and_(tab.locator("[aria-pressed=true]")).wait_for()


def test_a_prompt_that_is_left_out_of_the_address_survives_a_reload(visit, server):
    tab = visit(server)
    settled(tab)
    tab.locator(".st-key-head_link button").first.click()
    tab.get_by_text("Leave my prompt out").click()
    at_rest(tab)
    tab.keyboard.press("Escape")
    ask(tab, "my secret plan")
    tab.wait_for_url(lambda url: "p=" in url)
    assert "secret" not in tab.url
    tab.reload()
    tab.get_by_text("of 14, layer").wait_for()
    tab.locator("button.token").nth(13).wait_for()


def test_markup_in_a_prompt_reaches_the_screen_as_it_was_typed(visit, server):
    tab = visit(server, prompt=MARKUP)
    settled(tab)
    assert "".join(tab.locator("button.token").all_inner_texts()) == MARKUP.replace(" ", "␣")
    assert tab.locator(".tokens b, .js-plotly-plot b").count() == 0


def test_markup_in_an_error_reaches_the_screen_as_it_was_typed(visit, server):
    tab = visit(server, checkpoint=f"/nowhere/{MARKUP}")
    alert = tab.locator("[data-testid=stAlert]")
    alert.wait_for()
    shown = alert.inner_text().replace("\u2060", "")
    assert f"/nowhere/{MARKUP}: no such file or folder" in shown
    assert alert.locator("b, strong, .katex").count() == 0


def test_long_prompts_stay_usable(visit, server, tmp_path):
    tab = visit(server, prompt="0123456789" * 200, tok=300)
    settled(tab)
    assert 0 < tab.locator("button.token").count() < 1000, "only what can be seen is there"
    start = time.perf_counter()
    tab.locator("button.token[data-token='303']").click()
    tab.get_by_text("token 303 of 2,000").wait_for()
    print(f"click to card, 2,000 tokens: {time.perf_counter() - start:.2f} s")
    tab.screenshot(path=tmp_path / "long.png")


def test_the_link_to_a_view_opens_it_in_another_browser(visit, server):
    tab = visit(server, layer=1)
    settled(tab)
    ask(tab, "a colleague's prompt")
    tab.get_by_text("of 20, layer 1").wait_for()
    tab.locator("button.token").nth(5).click()
    wait_for_address(tab, tok=5)
    tab.locator(".st-key-head_link button").first.click()
    field = tab.locator(".npt-link input")
    expect(field).not_to_have_value("", timeout=120_000)
    link = field.input_value()
    assert link == tab.url
    other = visit(server)
    other.goto(link)
    other.get_by_text("token 5 of 20, layer 1").wait_for()


def test_back_and_forward_move_by_pin_and_by_page_one_press_each(visit, server):
    tab = visit(server, tok=1)
    settled(tab)
    for token in (3, 7):
        tab.locator("button.token").nth(token).click()
        tab.get_by_text(re.compile(f"token {token} of")).wait_for()
        tab.wait_for_timeout(1000)
    tab.locator("[data-testid=stSidebarNavLink]").filter(has_text="Directions").click()
    tab.locator(".npt-title h1").filter(has_text="Directions").wait_for()
    at_rest(tab)
    tab.wait_for_timeout(1000)
    for page, token in (("Tokens", 7), ("Tokens", 3), ("Tokens", 1)):
        tab.go_back()
        tab.locator(".npt-title h1").filter(has_text=page).wait_for()
        tab.get_by_text(re.compile(f"token {token} of")).wait_for()
        wait_for_address(tab, tok=token)
        at_rest(tab)
        tab.wait_for_timeout(1000)
    tab.go_forward()
    tab.get_by_text(re.compile("token 3 of")).wait_for()

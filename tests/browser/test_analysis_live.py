"""The analysis pages in a real Chromium: a click on a figure or a table pins the token, an edited prompt is marked."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from onpage import at_rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "abcdefghijkl"


def drawn(tab, key: str):
    """The figure, once nothing of the run before is left on the page."""
    figure = tab.locator(f".st-key-{key}")
    figure.locator(".js-plotly-plot .nsewdrag").first.wait_for(state="attached")
    tab.wait_for_function(
        "!document.querySelector('[data-testid=stStatusWidget], [data-stale=true] .js-plotly-plot')"
    )
    figure.scroll_into_view_if_needed()
    return figure


def opened(tab, name: str) -> None:
    """Open a section of the page's details."""
    tab.get_by_label("Details").get_by_text(name, exact=True).click()


def pinned(tab) -> str | None:
    return parse_qs(urlsplit(tab.url).query).get("tok", [None])[0]


def wait_for_pin(tab, token: int) -> None:
    tab.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("tok") == [str(token)])


def test_a_point_of_the_map_pins_its_token(visit, server):
    tab = visit(server, "directions", prompt=PROMPT, tok=0)
    opened(tab, "Map")
    figure = drawn(tab, "directions_map")
    # The pinned token may lie on another; the label of a point is its own.
    point = figure.locator(".scatterlayer .trace").last.locator(".point").nth(4)
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    figure.locator(".hovertext").wait_for()
    named = int(re.search(r"#(\d+)", figure.locator(".hovertext").text_content())[1])
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wait_for_pin(tab, named)


def test_a_bar_of_the_orthogonality_profile_pins_its_token(visit, server):
    tab = visit(server, "orthogonality", prompt=PROMPT * 3, tok=0)
    opened(tab, "Tokens")
    figure = drawn(tab, "orthogonality_profile")
    bars = [found for bar in figure.locator(".barlayer .point").all() if (found := bar.bounding_box())]
    i, box = max(enumerate(bars), key=lambda each: (each[0] > 0) * each[1]["height"])
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    figure.locator(".hovertext").wait_for()
    assert f"#{i}" in figure.locator(".hovertext").text_content()
    tab.mouse.click(x, y)
    wait_for_pin(tab, i)


def test_the_worst_token_is_pinned_on_tokens_too(visit, server):
    tab = visit(server, "reconstruction", prompt=PROMPT, tok=len(PROMPT) - 1)
    opened(tab, "Tokens")
    drawn(tab, "reconstruction_parts")
    tab.locator(".st-key-reconstruction_worst button").first.click()
    tab.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("tok") != [str(len(PROMPT) - 1)])
    token = pinned(tab)
    tab.locator("[data-testid=stSidebarNavLink]").filter(has_text="Tokens").click()
    tab.get_by_text(f"token {token} of {len(PROMPT)}").wait_for()


def test_an_edited_prompt_is_marked_until_it_is_inspected(visit, server):
    tab = visit(server, prompt=PROMPT)
    tab.locator(".st-key-pinned_card h2").wait_for()
    at_rest(tab)
    mark = tab.get_by_text("edited")
    assert not mark.is_visible()
    tab.locator(".npt-view .edit").first.click()
    tab.locator(".npt-view .editor").fill("another prompt")
    mark.wait_for()
    tab.get_by_role("button", name="Inspect", exact=True).click()
    tab.get_by_text(f"of {len('another prompt')}, layer").wait_for()
    mark.wait_for(state="hidden")

"""Token view in a real Chromium, on a page of its own: what shows before the server answers, keys, the prompt box."""

import json
import os
from collections.abc import Iterator
from urllib.parse import urlencode

import numpy as np
import pytest

from benchmarks import serving
from npt_viz.places import ROOT
from npt_viz.results.words import number

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARKUP = "<b>x</b> **y** :red[z] $q$ &amp; <img src=x onerror=window.hacked=1>"
AFTER_CLICK = """
(token) => new Promise((done) => {
  const roots = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated] *, .stBidiComponent *")]
    .map((e) => e.shadowRoot).filter(Boolean)
  const views = roots.filter((root) => root.querySelector(".npt-view"))
  const button = views[0].querySelector(`button.token[data-token="${token}"]`)
  const start = performance.now()
  button.click()
  const look = () => {
    const pins = views.map((root) => root.querySelector("button.token[aria-pressed=true]")?.dataset.token)
    if (pins.every((pin) => pin === String(token)))
      requestAnimationFrame(() => done([performance.now() - start, views.length]))
    else requestAnimationFrame(look)
  }
  look()
})
"""
"""Milliseconds from a click until every view of the page shows the pin, the frame that paints it included."""


MAP_CLICK = """
(host, [clientX, clientY]) => new Promise((done) => {
  const start = performance.now()
  host.querySelector(".scroller").dispatchEvent(new MouseEvent("click", { clientX, clientY, bubbles: true }))
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)))
})
"""
"""Milliseconds until the frame after the one that draws."""


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with serving.served(
        "tests/browser/token_view_page.py",
        OMP_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    ) as address:
        yield address


@pytest.fixture
def opened(chromium, page):
    """opened(tokens=8, …): a tab in which nothing may go wrong."""
    contexts, faults = [], []

    def visited(*, scheme="light", size=(1280, 720), watched="", **params):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        if watched:
            tab.add_init_script(watched)
        tab.goto(f"{page}/?{urlencode(params)}")
        tab.locator(".npt-view").first.wait_for()
        tab.locator(".npt-view button.token[aria-pressed=true], .editor:visible").first.wait_for()
        return tab

    yield visited
    for context in contexts:
        context.close()
    assert not faults


def first(tab):
    return tab.locator(".npt-view").first


def pinned(tab) -> list[str]:
    return [each.get_attribute("data-token") for each in tab.locator("button.token[aria-pressed=true]").all()]


def wait_for_pin(tab, token: int) -> None:
    first(tab).locator(f"button.token[data-token='{token}'][aria-pressed=true]").wait_for()


def wait_for_heard(tab, expected) -> None:
    said(tab, "heard", expected)


def said(tab, name: str, expected) -> None:
    """Wait until the server has said so."""
    tab.wait_for_function(
        "([name, text]) => document.querySelector(`pre.${name}`)?.textContent === text",
        arg=[name, json.dumps(expected)],
    )


def cell(tab, token: int, row: int, *, tokens: int, rows: int) -> tuple[float, float]:
    """Middle of a cell of the map, rows from below, found by its picture alone: the map ends where its axis begins."""
    place = first(tab).evaluate(
        """(host) => { const { gutter, plots: { place, scroller } } = host.view, box = scroller.getBoundingClientRect()
        return [box.left, box.top + place.map.top, place.map.height, place.column] }"""
    )
    left, top, height, column = place
    scrolled = first(tab).locator(".scroller").evaluate("(e) => e.scrollLeft")
    return left + (token + 0.5) * column - scrolled, top + height * (rows - row - 0.5) / rows


def test_a_click_pins_in_every_view_before_the_server_answers(opened):
    tab = opened(tokens=12, slow=3)
    took, views = tab.evaluate(AFTER_CLICK, 5)
    print(f"click to pin in {views} views, server asleep for 3 s: {took:.1f} ms")
    assert views == 2 and tab.locator("pre.heard").inner_text() == "[]"
    tab.evaluate(AFTER_CLICK, 7)
    # The answer to an older click must not undo a newer one.
    tab.evaluate(
        """window.dispatchEvent(new CustomEvent("npt-pin", { detail: {
           channel: "prompt", token: 5, layer: null, from: "server", at: performance.timeOrigin } }))"""
    )
    assert pinned(tab) == ["7", "7"]
    wait_for_heard(tab, [[5, None], [7, None]])
    assert pinned(tab) == ["7", "7"]
    tab.get_by_role("button", name="Server pins 3").click()
    wait_for_pin(tab, 3)


def test_the_strip_works_by_keyboard_and_is_one_stop_for_tab(opened):
    tab = opened(tokens=60, tok=2)
    assert first(tab).locator("button.token[tabindex='0']").count() == 1
    first(tab).locator("button.token[tabindex='0']").focus()
    keys = [
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("End", 59),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
    ]
    for key, token in keys:
        tab.keyboard.press(key)
        assert focused(tab) == token, key
    tab.keyboard.press("ArrowDown")
    below = focused(tab)
    assert below > 1
    tab.keyboard.press("ArrowUp")
    assert focused(tab) == 1
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    wait_for_pin(tab, below)
    wait_for_heard(tab, [[below, None]])
    assert first(tab).locator("button.token[tabindex='0']").count() == 1


def focused(tab) -> int:
    return tab.evaluate(
        "() => { let e = document.activeElement; while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement; return Number(e.dataset.token ?? -1) }"
    )


def test_a_map_cell_pins_token_and_layer_and_strip_and_profile_follow_at_once(opened):
    tab = opened(tokens=12, rows=3, slow=3)
    before = first(tab).locator("button.token").nth(5).get_attribute("aria-label")
    x, y = cell(tab, 4, 0, tokens=12, rows=3)
    tab.mouse.click(x, y)
    wait_for_pin(tab, 4)
    assert first(tab).locator(".caption").inner_text().startswith("relative error in layer 3")
    assert first(tab).locator("button.token").nth(5).get_attribute("aria-label") != before
    assert tab.locator("pre.heard").inner_text() == "[]"
    wait_for_heard(tab, [[4, 3]])
    assert first(tab).locator(".caption").inner_text().startswith("relative error in layer 3")


def test_pointing_links_strip_and_map_and_says_all_numbers(opened):
    tab = opened(tokens=12, rows=3)
    x, y = cell(tab, 4, 2, tokens=12, rows=3)
    tab.mouse.move(x, y)
    first(tab).locator("button.token.pointed[data-token='4']").wait_for()
    tip = first(tab).locator(".tip")
    assert "token 4 · layer 7 · id 28" in tip.inner_text() and "cosine" not in tip.inner_text()
    assert first(tab).locator(".scroller").evaluate("(e) => getComputedStyle(e).cursor") == "pointer"
    first(tab).locator("button.token").nth(6).hover()
    for label in ("relative error", "cosine", "next, base"):
        assert tip.get_by_text(label, exact=True).count() == 1
    assert "token 6 · layer 5" in tip.inner_text()
    assert first(tab).evaluate("(host) => host.view.pointed.token") == 6
    tab.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_the_map_works_by_keyboard(opened):
    tab = opened(tokens=12, rows=3, tok=2)
    first(tab).locator(".scroller").focus()
    for key in ("ArrowRight", "ArrowUp"):
        tab.keyboard.press(key)
    assert first(tab).locator(".spoken").inner_text().startswith("␣France, token 3, layer 7, relative error ")
    tab.keyboard.press("Enter")
    wait_for_heard(tab, [[3, 7]])


def test_a_prompt_is_edited_in_place_and_asked_with_ctrl_enter(opened):
    tab = opened(tokens=20, prompt="one prompt of tokens")
    height = first(tab).bounding_box()["height"]
    first(tab).locator("button.token[tabindex='0']").focus()
    tab.keyboard.press("e")
    editor = first(tab).locator(".editor")
    assert editor.input_value() == "one prompt of tokens"
    assert abs(first(tab).bounding_box()["height"] - height) <= 2
    # Streamlit's own keys are r and c.
    tab.keyboard.type(" rc")
    assert first(tab).locator(".note").inner_text() == "edited, Ctrl+Enter inspects"
    first(tab).get_by_label("Chat").check()
    tab.keyboard.press("Control+Enter")
    editor.press("Control+Enter")
    said(tab, "asked", ["one prompt of tokens rc", True, "auto"])
    first(tab).locator("button.token[data-token='22']").wait_for()
    assert not editor.is_visible() and first(tab).locator(".note").inner_text() == ""
    assert first(tab).locator(".resume").is_hidden()


def test_a_cancelled_draft_is_kept_in_the_tab_until_it_is_dropped(opened):
    tab = opened(tokens=20, prompt="one prompt of tokens")
    first(tab).locator(".tool.edit").click()
    first(tab).locator(".editor").fill("a draft <b>")
    first(tab).locator(".editor").press("Escape")
    assert first(tab).locator(".resume").inner_text() == "draft kept"
    assert focused(tab) == 1 and tab.locator("pre.asked").inner_text() == "null"
    tab.reload()
    first(tab).locator(".resume").click()
    assert first(tab).locator(".editor").input_value() == "a draft <b>"
    first(tab).locator(".tool.cancel").click()
    first(tab).locator(".tool.drop").click()
    assert first(tab).locator(".resume").is_hidden()
    first(tab).locator(".tool.edit").click()
    assert first(tab).locator(".editor").input_value() == "one prompt of tokens"


def test_an_example_is_asked_at_once_from_the_strip_and_fills_the_box_while_editing(opened):
    tab = opened(tokens=20, prompt="one prompt of tokens")
    first(tab).locator(".tool.edit").click()
    first(tab).locator(".examples").select_option("code")
    assert first(tab).locator(".editor").input_value() == "def f(n):\n    return n"
    assert tab.locator("pre.asked").inner_text() == "null"
    first(tab).locator(".tool.bos").select_option("no")
    first(tab).locator(".tool.inspect").click()
    said(tab, "asked", ["def f(n):\n    return n", False, "no"])
    first(tab).locator(".examples").select_option("capitals")
    said(tab, "asked", ["The capital of France is", False, "auto"])
    first(tab).locator("button.token").nth(23).wait_for()


def test_without_tokens_the_view_is_the_box(opened):
    tab = opened(tokens=0, prompt="")
    assert first(tab).locator(".editor").is_visible() and first(tab).locator(".tool.cancel").is_hidden()
    first(tab).locator(".editor").fill("text")
    first(tab).locator(".tool.inspect").click()
    first(tab).locator("button.token").nth(3).wait_for()


def test_markup_in_tokens_stays_text(opened):
    tab = opened(tokens=len(MARKUP), prompt=MARKUP)
    for token in (1, len(MARKUP) - 2):
        first(tab).locator(f"button.token[data-token='{token}']").hover()
    # The first token is a special one on this page.
    assert "".join(first(tab).locator("button.token").all_text_contents()[1:]) == MARKUP[1:]
    assert tab.locator(".tokens b, .tokens img, .tip b, .tip img").count() == 0
    assert tab.evaluate("window.hacked") is None


def test_long_prompts_have_few_buttons_and_scroll_at_the_pace_of_the_screen(opened):
    tab = opened(tokens=4096, rows=30, columns=12, tok=2048)
    wait_for_pin(tab, 2048)
    took, _ = tab.evaluate(AFTER_CLICK, 2050)
    print(f"click to pin in 2 views of 4,096 tokens × 30 layers: {took:.1f} ms")
    x, y = cell(tab, 2060, 29, tokens=4096, rows=30)
    print(f"click on the map, to the next frame: {first(tab).evaluate(MAP_CLICK, [x, y]):.1f} ms")
    wait_for_pin(tab, 2060)
    box = first(tab).locator(".tokens")
    assert first(tab).locator("button.token").count() < 400
    frames = box.evaluate(
        """(box) => new Promise((done) => {
          const spans = []; let before = performance.now(); box.scrollTop = 0
          const step = (now) => {
            spans.push(now - before); before = now; box.scrollTop += 40
            spans.length < 120 ? requestAnimationFrame(step) : done(spans.slice(2))
          }
          requestAnimationFrame(step)
        })"""
    )
    middle, slow = np.quantile(frames, [0.5, 0.95])
    print(f"frames while scrolling 4,096 tokens: median {middle:.1f} ms, p95 {slow:.1f} ms")
    seen = first(tab).locator("button.token").first.get_attribute("data-token")
    assert int(seen) > 100
    first(tab).locator("button.token[tabindex='0']").focus()
    tab.keyboard.press("End")
    assert focused(tab) == 4095
    tab.keyboard.press("Enter")
    wait_for_pin(tab, 4095)
    assert first(tab).evaluate("(host) => host.view.plots.scroller.scrollLeft") > 20_000


SENT = """
window.sent = []
const Socket = window.WebSocket
window.WebSocket = class extends Socket {
  constructor(...given) { super(...given); this.addEventListener("message", (e) => window.sent.push(e.data.byteLength ?? e.data.size ?? 0)) }
}
"""


def test_a_pin_does_not_send_the_data_again(opened):
    tab = opened(tokens=4096, rows=30, columns=12, tok=7, second=0, watched=SENT)
    wait_for_pin(tab, 7)
    whole = tab.evaluate("sent.reduce((a, b) => a + b, 0)")
    tab.wait_for_timeout(500)
    tab.evaluate("sent.length = 0")
    first(tab).locator("button.token[data-token='9']").click()
    wait_for_heard(tab, [[9, None]])
    tab.wait_for_timeout(300)
    again, messages = tab.evaluate("[sent.reduce((a, b) => a + b, 0), sent.length]")
    print(
        f"4,096 tokens × 30 layers: {whole / 1e6:.2f} MB at first, {again / 1e3:.1f} kB in {messages} messages for a pin"
    )
    assert whole <= 1_500_000 and again <= 40_000


SHIFTS = """
window.shifts = []
new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
  .observe({ type: "layout-shift", buffered: true })
"""


def test_what_stands_below_does_not_jump_when_the_view_is_drawn(opened):
    # Room for two lines of the strip is kept; the third is the jump that is left.
    tab = opened(tokens=60, rows=8, strip=90, second=0, watched=SHIFTS)
    wait_for_pin(tab, 1)
    tab.wait_for_timeout(500)
    jumped = tab.evaluate("shifts.reduce((a, b) => a + b, 0)")
    print(f"layout shift while the view is drawn: {jumped:.3f}")
    assert jumped < 0.1


WATCHED = """
const { addEventListener, removeEventListener } = EventTarget.prototype
const known = new Set()
EventTarget.prototype.addEventListener = function (name, act, options) {
  if (name.startsWith("npt-") || (name === "loadingdone" && options?.signal)) {
    known.add(act)
    options?.signal?.addEventListener("abort", () => known.delete(act))
  }
  return addEventListener.call(this, name, act, options)
}
EventTarget.prototype.removeEventListener = function (name, act, options) {
  known.delete(act)
  return removeEventListener.call(this, name, act, options)
}
window.nptListeners = () => known.size
const interval = window.setInterval
window.intervals = 0
window.setInterval = (...given) => { if (String(new Error().stack).includes("st-bidi-npt")) window.intervals++; return interval(...given) }
"""


def test_nothing_is_left_after_a_remount(opened):
    tab = opened(tokens=12, watched=WATCHED)
    assert tab.evaluate("nptListeners()") == 5  # Two of each view, and the signal.
    for left in (0, 5, 0, 5):
        tab.get_by_role("button", name="Remount").click()
        tab.wait_for_function(f"nptListeners() === {left}")
    assert tab.evaluate("intervals") == 0
    first(tab).locator("button.token[data-token='5']").click()
    wait_for_heard(tab, [[5, None]])
    wait_for_pin(tab, 5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tokens, rows", [(5, 3), (60, 8), (2000, 30)])
def test_both_themes_can_be_read(opened, tmp_path, scheme, tokens, rows):
    tab = opened(scheme=scheme, tokens=tokens, rows=rows)
    colours = first(tab).evaluate(
        """(host) => [...host.querySelectorAll("button.token")].slice(1, 60).map((e) => {
          const s = getComputedStyle(e); return [s.color, s.backgroundColor] })"""
    )
    assert len({background for _, background in colours}) > 3 or tokens == 5
    page_colour = tab.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert (channel_sum(page_colour) > 380) == (scheme == "light")
    # Text cut off, in anything that is seen.
    cut = first(tab).evaluate(
        """(host) => [...host.querySelectorAll("button, span, label, select")].filter((e) => e.offsetParent &&
          e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline" && !e.closest(".scale-bar")).map((e) => e.outerHTML)"""
    )
    assert cut == []
    tab.screenshot(path=tmp_path / f"{tokens}-{scheme}.png")
    print(tmp_path / f"{tokens}-{scheme}.png")


def channel_sum(rgb: str) -> int:
    return sum(int(part) for part in rgb[rgb.index("(") + 1 : -1].split(",")[:3])


def test_numbers_are_written_as_python_writes_them(opened):
    drawn = np.random.default_rng(0)
    values = [float(np.float32(v)) for v in drawn.normal(size=400) * 10.0 ** drawn.integers(-9, 10, 400)]
    values += [0.0, 1.0, -1.0, 999.4, 999.7, 1000.0, 12345.6, 9.96e-5, 2e-5, 1e7, 1.23e12, 0.1, 0.5]
    tab = opened(tokens=12, columns=1)
    script = (ROOT / "npt_viz/figures/token_view/view.js").read_text(encoding="utf-8")
    functions = script[script.index("function number(") : script.index("function element(")]
    written = tab.evaluate(f"(values) => {{ {functions}; return values.map(number) }}", values)
    assert written == [number(value) for value in values]

"""How long a researcher waits for the app in a browser: first paint of a warm server, and a click on a token.

python -m benchmarks.latency; needs Playwright and a Chromium. Starts a server of its own.
"""

import os
import statistics
import time
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.paired import machine
from benchmarks.serving import CHROMIUM, QUIET, served
from npt_viz.texts import bundled_texts

PAGES = ("tokens", "reconstruction", "directions", "orthogonality", "attribution")
CHECKPOINT = "checkpoints/smollm2-135m-gate+up-15"
TIMES = 5
LONG_CHARACTERS = 7300
"""About 2,000 tokens."""

WATCH = """
window.seen = {}
const timer = setInterval(() => {
  const note = (name, there) => { if (there && !(name in seen)) seen[name] = performance.now() / 1000 }
  note("title", document.querySelector(".npt-title h1"))
  note("form", document.querySelector(".st-key-prompt"))
  if (Object.keys(seen).length === 2) clearInterval(timer)
}, 5)
"""
"""When the title and the form first stood on the screen, in seconds since the page was asked for."""

IDLE = "!document.querySelector('[data-testid=stStatusWidget], [data-testid=stSpinner], [data-stale=true]')"


def main() -> None:
    long = " ".join(bundled_texts("heldout"))[:LONG_CHARACTERS]
    print(f"{CHECKPOINT}; {machine()}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"seconds, median of {TIMES} (range)")
    with served() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for page in PAGES:
            opened(browser, f"{server}/{page}").close()
            paints = []
            for _ in range(TIMES):
                tab = opened(browser, f"{server}/{page}")
                paints.append(max(tab.evaluate("Object.values(seen)")))
                tab.close()
            tab = opened(browser, f"{server}/{page}")
            clicks = [clicked(tab, token) for token in range(2, 2 + TIMES)]
            tab.close()
            print(f"  {page:15} first paint {_row(paints)}   click on a token {_row(clicks)}", flush=True)
        tab = opened(browser, f"{server}/tokens", prompt=long)
        print(f"  tokens, {tab.locator('button.token').count():,} tokens".ljust(48), end="")
        print(f"click on a token {_row([clicked(tab, 300 + i) for i in range(TIMES)])}")
        browser.close()


def opened(browser: Browser, address: str, **said: str) -> Page:
    """A new tab with everything drawn."""
    tab = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    tab.set_default_timeout(300_000)
    tab.add_init_script(WATCH)
    tab.goto(f"{address}?{urlencode({'checkpoint': CHECKPOINT} | said)}")
    tab.locator("button.token").first.wait_for()
    _settle(tab)
    return tab


def clicked(tab: Page, token: int) -> float:
    """Seconds from the click to the page standing still with this token's numbers."""
    button = tab.locator("button.token").nth(token)
    button.scroll_into_view_if_needed()
    start = time.perf_counter()
    button.click()
    tab.wait_for_function(
        "token => new URL(location).searchParams.get('tok') === String(token)", arg=token, polling=10
    )
    _settle(tab, quiet=0)
    return time.perf_counter() - start


def _settle(tab: Page, quiet: int = 800) -> None:
    tab.wait_for_function(IDLE, polling=10)
    while quiet:
        tab.wait_for_timeout(quiet)
        if tab.evaluate(IDLE):
            return
        tab.wait_for_function(IDLE, polling=10)


def _row(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()

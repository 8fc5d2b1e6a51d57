"""What stands where in the app's pages, and when it first stood there: for benchmarks and browser tests."""

import json
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page

HEADING = "[data-testid=stMain] h1"
TOKEN = "button.token"
PINNED = "button.token[aria-pressed=true]"
ANSWER_KEY = ".st-key-answer"
ANSWER = f"{ANSWER_KEY}, .st-key-strip"
"""The strip stands for the answer above it where that has no key."""

MAIN_FIGURE = ".st-key-main_figure"
TOKEN_VIEW = ".npt-view"
PAGE_LINK = "[data-testid=stSidebarNavLink], [data-testid=stPageLink-NavLink]"
"""CSS selectors; what lies in a component is looked for in its shadow root too."""

FIRST_SCREEN = {"width": 1280, "height": 720}

PATIENCE = 600_000
"""Milliseconds; a busy machine is no fault of the app."""

QUIET = 400
"""Milliseconds without a change after which a page is at rest."""

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


class Visit:
    """A tab of a new browser, on a page at rest."""

    def __init__(self, browser: Browser, address: str, watched: dict[str, str], **said: str):
        """watched: name -> selector of what to note the time of; said: parameters of the address."""
        self.context = browser.new_context(viewport=FIRST_SCREEN)
        self.tab: Page = self.context.new_page()
        self.messages: list[int] = []
        """Bytes of every message that the websocket brought, before compression."""
        network = self.context.new_cdp_session(self.tab)
        network.on("Network.webSocketFrameReceived", self._note)
        network.send("Network.enable")
        self.tab.set_default_timeout(PATIENCE)
        self.tab.add_init_script(f"{SCRIPT}\nnpt.watch({json.dumps(watched)})")
        self.tab.goto(f"{address}?{urlencode(said)}")
        self.tab.wait_for_function("names => names.every((name) => name in npt.seen)", arg=list(watched))
        self.settle()

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def seen(self, *names: str) -> float:
        """Seconds from asking for the page until all of these had been on the screen; "figures": all plotly figures."""
        seen = self.tab.evaluate("npt.seen")
        return max(seen[name] for name in names) / 1e3

    def settle(self) -> None:
        """Wait until no run is under way and nothing in the main part changes any more."""
        self.tab.wait_for_function("quiet => npt.isAtRest(quiet)", arg=QUIET, polling=20)

    def click(self, x: float, y: float) -> None:
        """Point there, wait for what pointing does, and click."""
        self.tab.mouse.move(x, y)
        self.settle()
        self.messages.clear()
        self.tab.mouse.click(x, y)

    def _note(self, event: dict) -> None:
        data = event["response"]["payloadData"]
        is_text = event["response"]["opcode"] == 1
        self.messages.append(len(data.encode()) if is_text else len(data) * 3 // 4 - data[-2:].count("="))

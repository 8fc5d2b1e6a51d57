"""What the browser tests share: a server, a Chromium for each file, and tabs in which nothing may go wrong."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import pytest
from onpage import written

from benchmarks import serving

PATIENCE = 120_000
"""Milliseconds; a busy machine is no fault of the app."""


@contextmanager
def served() -> Iterator[str]:
    """A fresh server with a folder of runs that goes when it goes."""
    with (
        tempfile.TemporaryDirectory() as runs,
        serving.served(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", NPT_VIZ_RUNS=runs) as address,
    ):
        yield address


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return written(tmp_path_factory.mktemp("browser"), context=4096)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """One for all tests that do not need a cold one."""
    with served() as address:
        yield address


@pytest.fixture
def cold_server() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    # Closed with its file: one that was left open while a worker ran everything else did not close at its end.
    sync_api = pytest.importorskip("playwright.sync_api")
    if serving.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, files):
    """visit(server, "tokens", tok=3): a new tab on a page; afterwards nothing may have gone wrong in it."""
    contexts, faults = [], []

    def note(request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None, ""):
            faults.append(f"request to {request.url}")

    def visited(server: str, page: str = "tokens", *, scheme: str = "light", **params):
        context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.add_init_script(SEEN)
        tab.on("pageerror", lambda error: faults.append(f"page error {error}"))
        tab.on("request", note)
        said = {"model": files.model, "checkpoint": files.checkpoint} | params
        tab.goto(f"{server}/{page}?{urlencode(said)}")
        return tab

    yield visited
    for context in contexts:
        context.close()
    assert not faults


SEEN = """
window.seen = {}
const note = (name, there) => { if (there && !(name in seen)) seen[name] = performance.now() / 1000 }
const timer = setInterval(() => {
  note("head", document.querySelector(".st-key-head"))
  note("title", document.querySelector(".npt-title h1"))
  note("tokens", [...document.querySelectorAll(".st-key-prompt_view *")].some((e) => e.shadowRoot?.querySelector("button.token")))
  if (Object.keys(seen).length === 3) clearInterval(timer)
}, 10)
"""
"""When things first stood on the screen, in seconds since the page was asked for."""

"""What a reload, a second tab, a second browser and a new server keep: the table of docs/workspace.md, in a browser."""

import re
import tempfile
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
from onpage import at_rest

from benchmarks import serving

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FACT = "The cat is blue. The cat is"


@pytest.fixture
def workspace():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield folder


@contextmanager
def server_on(workspace, runs):
    with serving.served(
        HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", NPT_VIZ_RUNS=str(runs), NPT_VIZ_WORKSPACE=str(workspace)
    ) as address:
        yield address


def address_of(files, server, page, **params) -> str:
    said = {"model": files.model, "checkpoint": files.checkpoint, "prompt": FACT, "layer": "3", "tok": "26"}
    return f"{server}/{page}?{urlencode(said | params)}"


def opened(context, address):
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(address)
    return tab


def cookie_of(context) -> str | None:
    found = [each for each in context.cookies() if each["name"] == "npt_viz_browser"]
    return found[0]["value"] if found else None


def known(tab) -> None:
    """Wait until the browser has its id."""
    tab.wait_for_function("document.cookie.includes('npt_viz_browser=')")
    at_rest(tab)


def sees(tab, text: str) -> None:
    tab.get_by_text(text).first.wait_for()


def test_ledger_and_choices_are_kept_by_reload_second_tab_and_restart_and_hidden_from_others(
    chromium, files, workspace, tmp_path
):
    mine, other = chromium.new_context(), chromium.new_context()
    with server_on(workspace, tmp_path) as server:
        tab = opened(mine, address_of(files, server, "permanent_update"))
        tab.locator(".st-key-edit_apply button").first.wait_for()
        known(tab)
        tab.locator(".st-key-edit_alpha input").fill("2.5")
        tab.locator(".st-key-edit_alpha input").press("Enter")
        at_rest(tab)
        tab.locator(".st-key-edit_apply button").first.click()
        sees(tab, "#1: npt")
        identity = cookie_of(mine)
        assert re.fullmatch("[0-9a-f]{32}", identity or ""), identity
        (cookie,) = [each for each in mine.cookies() if each["name"] == "npt_viz_browser"]
        assert cookie["sameSite"] == "Strict" and cookie["path"] == "/"
        assert identity not in tab.content(), "the id is shown nowhere"

        at_rest(tab)
        tab.reload()
        sees(tab, "#1: npt")
        tab.locator(".st-key-edit_alpha input[value='2.5']").wait_for()

        second = opened(mine, address_of(files, server, "permanent_update"))
        sees(second, "#1: npt")
        second.locator(".st-key-edit_alpha input[value='2.5']").wait_for()
        second.close()

        stranger = opened(other, address_of(files, server, "permanent_update"))
        stranger.get_by_text("The ledger is empty.").wait_for()
        known(stranger)
        stranger.locator(".st-key-edit_alpha input[value='1']").wait_for()
        assert cookie_of(other) not in (None, identity)
        at_rest(stranger)
    # The address is another one: a new port.
    with server_on(workspace, tmp_path) as server:
        tab = opened(mine, address_of(files, server, "permanent_update"))
        sees(tab, "#1: npt")
        tab.locator(".st-key-edit_alpha input[value='2.5']").wait_for()
        tab.get_by_text("The ledger holds 1 update").wait_for()
        tab.get_by_role("button", name="Undo", exact=True).click()
        tab.get_by_role("button", name="Undone: bring 1 update back").click()
        sees(tab, "#1: npt")
        assert cookie_of(mine) == identity
        stranger = opened(other, address_of(files, server, "permanent_update"))
        stranger.get_by_text("The ledger is empty.").wait_for()
    mine.close()
    other.close()

"""What a reload, a second tab, a second browser and a new server keep: the table of docs/workspace.md, in a browser."""

import re
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil
import pytest
from onpage import at_rest

from benchmarks import serving
from npt_viz.training.state import steps_saved
from npt_viz.workspace.trainings import record_of

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1200)]

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
    tab.set_default_timeout(300_000)
    tab.goto(address)
    return tab


def cookie_of(context) -> str | None:
    found = [each for each in context.cookies() if each["name"] == "npt_viz_browser"]
    return found[0]["value"] if found else None


def known(tab) -> None:
    """Wait until the browser has its id."""
    tab.wait_for_function("document.cookie.includes('npt_viz_browser=')")
    at_rest(tab)


def ledger_of(tab):
    """The ledger's list, opened."""
    button = tab.locator(".st-key-head_ledger button").first
    button.wait_for()
    at_rest(tab)
    button.click()
    return tab.locator("[data-testid=stPopoverBody]")


def counts(tab, n: int) -> None:
    """Wait until the head counts n updates."""
    tab.locator(".st-key-head_ledger button", has_text=re.compile(rf"(?<!\d){n}(?!\d)")).first.wait_for()
    at_rest(tab)


def sees_the_update(tab) -> None:
    """Wait until the ledger's list has the update, and close it again."""
    ledger_of(tab).get_by_text("#1: npt").wait_for()
    tab.keyboard.press("Escape")


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
        sees_the_update(tab)
        identity = cookie_of(mine)
        assert re.fullmatch("[0-9a-f]{32}", identity or ""), identity
        (cookie,) = [each for each in mine.cookies() if each["name"] == "npt_viz_browser"]
        assert cookie["sameSite"] == "Strict" and cookie["path"] == "/"
        assert identity not in tab.content(), "the id is shown nowhere"

        at_rest(tab)
        tab.reload()
        sees_the_update(tab)
        tab.locator(".st-key-edit_alpha input[value='2.5']").wait_for()

        second = opened(mine, address_of(files, server, "permanent_update"))
        sees_the_update(second)
        second.locator(".st-key-edit_alpha input[value='2.5']").wait_for()
        second.close()

        stranger = opened(other, address_of(files, server, "permanent_update"))
        counts(stranger, 0)
        known(stranger)
        stranger.locator(".st-key-edit_alpha input[value='1']").wait_for()
        assert cookie_of(other) not in (None, identity)
        at_rest(stranger)
    # The address is another one: a new port.
    with server_on(workspace, tmp_path) as server:
        tab = opened(mine, address_of(files, server, "permanent_update"))
        sees_the_update(tab)
        tab.locator(".st-key-edit_alpha input[value='2.5']").wait_for()
        counts(tab, 1)
        ledger_of(tab).get_by_role("button", name="Undo", exact=True).click()
        tab.get_by_role("button", name="Take update #1 back").click()
        counts(tab, 0)
        bring_back = tab.get_by_role("button", name="Undone: bring 1 update back")
        if not bring_back.is_visible():
            ledger_of(tab)
        bring_back.click()
        counts(tab, 1)
        assert cookie_of(mine) == identity
        stranger = opened(other, address_of(files, server, "permanent_update"))
        counts(stranger, 0)
    mine.close()
    other.close()


def step(tab) -> int:
    # The text is not there for a moment while the fragment is drawn anew.
    said = tab.wait_for_function(
        "document.querySelector('.stProgress')?.innerText.match(/step ([0-9,]+) of 1,000,000/)?.[1]"
    )
    return int(said.json_value().replace(",", ""))


def begin_training(tab) -> None:
    """Start a training that would not end by itself."""
    tab.get_by_role("tab", name="Schedule").click()
    tab.get_by_text("held out").wait_for()
    at_rest(tab)
    steps = tab.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill("1000000")
    steps.press("Enter")
    at_rest(tab)
    tab.locator(".st-key-training_start button").first.click()


def saved_steps(workspace) -> int:
    """Steps of the one training in the workspace, once it is saved."""
    deadline = time.monotonic() + 120
    while not (found := list(Path(workspace).glob("browsers/*/trainings/*/training_state.pt"))):
        assert time.monotonic() < deadline, "it was not saved"
        time.sleep(0.5)
    return steps_saved(found[0])[0]


def kill(server) -> None:
    port = str(urlsplit(server).port)
    for process in psutil.Process().children(recursive=True):
        if port in process.cmdline():
            process.kill()


def test_a_training_outlives_reload_closed_tab_and_a_killed_server(chromium, files, workspace, tmp_path):
    mine, other = chromium.new_context(), chromium.new_context()
    with server_on(workspace, tmp_path) as server:
        tab = opened(mine, address_of(files, server, "training"))
        known(tab)
        begin_training(tab)
        before = step(tab)
        tab.reload()
        reloaded = step(tab)
        assert reloaded >= before

        second = opened(mine, address_of(files, server, "tokens"))
        second.get_by_text(re.compile("A training runs · step [0-9,]+ of 1,000,000")).wait_for()
        tab.close()
        second.close()
        stranger = opened(other, address_of(files, server, "training"))
        stranger.locator(".st-key-training_start button:enabled").first.wait_for()
        assert not stranger.locator(".st-key-training_stop button:enabled").count()
        assert not stranger.get_by_text("A training runs").count()
        again = opened(mine, address_of(files, server, "tokens"))
        again.locator(".st-key-npt_runs_training a").click()
        assert step(again) > reloaded, "it went on without a tab"
        at_saving = saved_steps(workspace)
        kill(server)
    with server_on(workspace, tmp_path) as server:
        tab = opened(mine, address_of(files, server, "training"))
        tab.get_by_text(re.compile("layer 2, direct robust, interrupted .* was saved after")).wait_for()
        go_on = tab.locator(".st-key-training_resume button").first
        offered = int(re.sub("[^0-9]", "", go_on.inner_text().rpartition("step")[2]))
        assert offered >= at_saving > 0
        go_on.click()
        last = step(tab)
        assert last >= offered
    # Stopped as a user stops it, while the training ran.
    (folder,) = Path(workspace).glob("browsers/*/trainings/*")
    record = record_of(folder)
    assert record.state == "stopped" and record.done == steps_saved(folder)[0] >= last
    mine.close()
    other.close()

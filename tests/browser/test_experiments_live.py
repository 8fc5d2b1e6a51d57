"""An experiment in a real Chromium: typed arms, curves that come by themselves, Stop, and what was saved."""

import pytest
from onpage import at_rest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 120_000


def fill(tab, label: str, value: str) -> None:
    field = tab.get_by_role("spinbutton", name=label, exact=True)
    at_rest(tab)
    field.fill(value)
    field.press("Enter")
    at_rest(tab)
    expect(field).to_have_value(value)


def endless(tab) -> None:
    """Set up an experiment that does not end by itself: too slow to learn its training text by heart, and to fail so."""
    tab.get_by_role("tab", name="Schedule").click()
    fill(tab, "Steps", "100000")
    fill(tab, "Learning rate", "0.000001")


@pytest.fixture
def tab(visit, server):
    opened = visit(server, "experiments")
    opened.locator(".st-key-experiment_setup summary").click()
    opened.get_by_role("tab", name="Schedule").click()
    fill(opened, "Tokens a batch", "64")
    opened.get_by_role("tab", name="Text").click()
    fill(opened, "Tokens to use, at most", "2048")
    return opened


def named(tab, name: str) -> None:
    field = tab.get_by_role("textbox", name="Name", exact=True)
    field.fill(name)
    field.press("Enter")


def button(tab, name: str):
    return tab.locator(f".st-key-experiment_{name} button").first


def test_arms_are_compared_while_they_train_and_the_report_is_one_file(tab, tmp_path):
    named(tab, "browser finishes")
    tab.get_by_role("tab", name="Schedule").click()
    fill(tab, "Steps", "16")
    fill(tab, "Steps between evaluations", "4")
    expect(button(tab, "start")).to_be_enabled(timeout=PATIENCE)
    button(tab, "start").click()
    tab.get_by_text("finished in").wait_for()
    expect(tab.locator(".st-key-experiment_curves .js-plotly-plot .lines path")).not_to_have_count(
        0, timeout=PATIENCE
    )
    expect(tab.locator(".st-key-experiment_strips .js-plotly-plot .heatmaplayer")).not_to_have_count(
        0, timeout=PATIENCE
    )
    assert "experiment=" in tab.url, "the address says what is shown"
    again = tab.context.new_page()
    again.set_default_timeout(PATIENCE)
    again.goto(tab.url)
    again.get_by_text("Share recovered: the reference").wait_for()
    with tab.expect_download() as download:
        button(tab, "html").click()
    page = tmp_path / "report.html"
    download.value.save_as(page)
    report = tab.context.new_page()
    faults = []
    report.on("pageerror", lambda error: faults.append(str(error)))
    report.goto(page.as_uri())
    report.locator(".js-plotly-plot .lines path").first.wait_for()
    assert report.locator("h1").inner_text() == "browser finishes" and not faults


def test_stop_keeps_what_was_learned_and_start_goes_on(tab):
    named(tab, "browser stops")
    endless(tab)
    expect(button(tab, "start")).to_be_enabled(timeout=PATIENCE)
    button(tab, "start").click()
    tab.locator(".st-key-experiment_curves .js-plotly-plot").first.wait_for()
    button(tab, "stop").click()
    tab.get_by_text("stopped; Start goes on").wait_for()
    expect(button(tab, "start")).to_be_enabled(timeout=PATIENCE)
    expect(button(tab, "stop")).to_be_disabled()


def test_a_running_experiment_goes_on_over_a_reload_and_every_page_says_so(tab):
    named(tab, "browser reloads")
    endless(tab)
    expect(button(tab, "start")).to_be_enabled(timeout=PATIENCE)
    button(tab, "start").click()
    tab.locator(".st-key-experiment_curves .js-plotly-plot").first.wait_for()
    tab.reload()
    expect(button(tab, "stop")).to_be_enabled(timeout=PATIENCE)
    tab.locator(".st-key-experiment_curves .js-plotly-plot").first.wait_for()
    at_rest(tab)
    tab.get_by_role("link", name="Tokens").click()
    tab.wait_for_url("**/tokens**")
    tab.get_by_text("An experiment runs").wait_for()
    at_rest(tab)
    tab.get_by_role("link", name="Experiments").click()
    tab.wait_for_url("**/experiments**")
    button(tab, "stop").click()
    tab.get_by_text("stopped; Start goes on").wait_for()

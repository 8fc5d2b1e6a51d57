"""The Runs page in a real Chromium: a path is typed, two runs lie over one another, the legend switches one off."""

import json

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHART = ".st-key-runs_chart_training"
PATIENCE = 120_000


def log(folder, scale):
    folder.mkdir()
    rows = [{"step": s, "total_loss": scale / s, "direct_mlp_loss": 0.5 * scale / s} for s in range(1, 200)]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def lines(tab):
    return tab.locator(f"{CHART} .scatterlayer .trace .lines path")


def drawn(tab, count):
    expect(lines(tab)).to_have_count(count, timeout=PATIENCE)


def typed(tab, path):
    box = tab.get_by_role("combobox", name="Runs")
    box.fill(path)
    box.press("Enter")
    box.press("Escape")


def test_two_runs_typed_by_path_are_overlaid_and_the_legend_toggles(visit, server, tmp_path):
    # No such model: the page needs none.
    tab = visit(server, "runs", model="nobody/has-this", checkpoint="")
    # Those that come with npt_viz, or that were saved since.
    tab.locator(".st-key-runs").get_by_role("button", name="Clear all").click()
    tab.get_by_text("Choose runs above").wait_for()
    typed(tab, log(tmp_path / "first", 1.0))
    drawn(tab, 1)
    typed(tab, log(tmp_path / "second", 3.0))
    drawn(tab, 2)
    tab.wait_for_url("**first**second**")
    colours = lines(tab).evaluate_all("paths => paths.map(path => getComputedStyle(path).stroke)")
    assert len(set(colours)) == 2
    tab.locator(f"{CHART} .legendtoggle").first.click()
    drawn(tab, 1)
    tab.locator(f"{CHART} .legendtoggle").first.click()
    drawn(tab, 2)


def test_the_link_shows_the_same_to_someone_else(visit, server, tmp_path):
    paths = [log(tmp_path / "first", 1.0), log(tmp_path / "second", 3.0)]
    tab = visit(server, "runs", runs=paths[0])
    drawn(tab, 1)
    typed(tab, paths[1])
    drawn(tab, 2)
    tab.locator(".st-key-runs_axes button").first.click()
    tab.locator(".st-key-runs_log label").click()
    tab.wait_for_url("**runs_log=true**")
    other = visit(server, "runs")
    other.goto(tab.url)
    drawn(other, 2)
    other.locator(".st-key-runs_axes button").first.click()
    expect(other.locator(".st-key-runs_log input")).to_be_checked(timeout=PATIENCE)


def test_a_watched_training_is_followed_without_a_click(visit, server, tmp_path):
    import npt_viz

    watching = npt_viz.watch(tmp_path / "mine", layers=2)
    watching.step(8.0)
    watching.step(4.0)
    tab = visit(server, "runs", model="nobody/has-this", checkpoint="", runs=str(tmp_path / "mine"))
    tab.get_by_text("at step 2").wait_for()
    watching.step(2.0)
    tab.get_by_text("at step 3").wait_for(timeout=PATIENCE)

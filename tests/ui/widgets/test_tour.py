"""The tour: offered once, its steps follow where the user is, and it ends at the cause of the fault."""

import shutil

import pytest

from npt_viz.ui.widgets import tour


@pytest.fixture
def demos(on_disk, tmp_path, monkeypatch):
    """A checkpoint under the name of the unhealthy specimen."""
    unhealthy = str(tmp_path / "tiny-unhealthy-no-rope")
    shutil.copytree(on_disk.checkpoint, unhealthy)
    monkeypatch.setattr(tour, "checkpoints_here", lambda: [on_disk.checkpoint, unhealthy])
    return unhealthy


def said(page) -> str:
    return "\n".join(each.value for each in page.markdown if "of 4**" in each.value)


def test_the_tour_ends_at_the_cause(app, demos):
    page = app()
    page.button(key="tour_take").click().run()
    assert "1 of 4" in said(page)
    page.button(key="tour_open").click().run()
    assert page.session_state["checkpoint"] == demos and "2 of 4" in said(page)
    page.switch_page("pages/reconstruction.py").run()
    assert "3 of 4" in said(page)
    page.button(key="tour_positions").click().run()
    assert "4 of 4" in said(page) and "without RoPE" in said(page)
    assert page.session_state["positions"] == "trained"
    page.button(key="tour_done").click().run()
    assert not page.exception and not said(page)
    assert page.session_state["positions"] == "deployed"
    page.switch_page("pages/home.py").run()
    assert "tour_take" not in {each.key for each in page.button}


def test_a_declined_tour_is_not_offered_again(app, demos):
    page = app()
    page.button(key="tour_decline").click().run()
    assert "tour_take" not in {each.key for each in page.button} and not said(page)


def test_without_the_demo_checkpoints_there_is_no_tour(app, monkeypatch):
    monkeypatch.setattr(tour, "checkpoints_here", list)
    assert "tour_take" not in {each.key for each in app().button}

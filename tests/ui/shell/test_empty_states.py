"""Pages in which nothing, or too little, is there: each says the next thing to do, and none fails."""

import re

import pytest

from npt_viz.ui.shell.nav import _PAGES

PAGES = [name for entries in _PAGES.values() for name, *_ in entries if name != "glossary"]
OF_A_PROMPT = [name for group in ("", "Inspect", "Edit") for name, *_ in _PAGES[group] if name != "compare"]

ACTION = re.compile(
    r"\b(choose|press|open|give|enter|type|write|upload|shorten|take|start|try|check|switch|train|use|set up|add|fetch|see)\b",
    re.I,
)


def messages(page) -> list[str]:
    kinds = (page.error, page.warning, page.info)
    return [each.value.replace("\\", "") for kind in kinds for each in kind]


def demand(page, *, at_least: int = 1) -> None:
    """Every message tells what to do."""
    assert not page.exception
    said = messages(page)
    assert len(said) >= at_least
    for sentence in said:
        assert ACTION.search(sentence), sentence


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ("runs", "history")])
@pytest.mark.parametrize(
    "said", [{"checkpoint": "no/such"}, {"model": "no/such/model"}], ids=["checkpoint", "model"]
)
def test_what_is_not_there_is_asked_for(app, name, said):
    demand(app(name, **said))


@pytest.mark.parametrize("name", OF_A_PROMPT)
@pytest.mark.parametrize("prompt", ["", " \n"], ids=["empty", "blank"])
def test_without_a_prompt_one_is_asked_for(app, name, prompt):
    demand(app(name, prompt=prompt))


@pytest.mark.parametrize("name", OF_A_PROMPT)
def test_one_token_asks_for_a_longer_prompt(app, name):
    page = app(name, prompt="a")
    demand(page, at_least=0)
    said = [*messages(page), *(each.value for kind in (page.markdown, page.caption) for each in kind)]
    assert any("longer prompt" in each or "prompt of two tokens" in each for each in said)


def test_a_layer_without_an_adapter_is_named_until_another_is_chosen(app):
    page = app("tokens", layer="4")
    demand(page)
    assert "Layer 4: no NPT layer" in page.warning[0].value and "Shown: layer 3" in page.warning[0].value
    page.selectbox(key="layer").set_value(1).run()
    assert not page.warning and not page.exception


@pytest.mark.parametrize("name", PAGES)
def test_a_machine_without_demos_runs_and_experiments_says_where_to_begin(app, name, monkeypatch, tmp_path):
    for place in ("npt_viz.ui.shell.found.checkpoints_here", "npt_viz.ui.widgets.head.checkpoints_here"):
        monkeypatch.setattr(place, list)
    for module in ("runs.controls", "experiments.job"):
        monkeypatch.setattr(f"npt_viz.ui.{module}.shipped_experiments", list)
        monkeypatch.setattr(f"npt_viz.ui.{module}.RUNS", tmp_path)
    demand(app(name, checkpoint=""))

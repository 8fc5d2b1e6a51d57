"""Wrong inputs in the browser: every page says the cause, and none ends in what nobody foresaw."""

import json
import shutil
from pathlib import Path

import pytest

from npt_viz.places import ROOT

pytestmark = pytest.mark.slow

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
WITHOUT_MODEL = {"runs", "glossary", "history"}
"""Read logs or what was kept, or nothing."""

WRONG = {
    "an unknown user": ({"model": "~nobody_x/a"}, "no home folder of nobody_x"),
    "a long name": ({"checkpoint": "x" * 3000}, "a file name may have 255 bytes"),
    "no such GPU": ({"device": "cuda:99"}, "is not on this machine"),
}
BY_MODEL_ALONE = {"training", "experiments"}
"""Open the model when something is begun."""


def said(found) -> str:
    assert not found.exception, found.exception
    return " ".join(element.value for element in [*found.error, *found.info, *found.warning]).replace(
        "\\", ""
    )


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_page_says_what_is_wrong(app, page, wrong):
    given, words = WRONG[wrong]
    shown = said(app(page, **given))
    assert "foresee" not in shown
    if page not in WITHOUT_MODEL | BY_MODEL_ALONE:
        assert words in shown


def test_a_template_that_refuses_the_turn_is_a_sentence_on_the_page(app, on_disk, tmp_path):
    model = shutil.copytree(on_disk.model, tmp_path / "model")
    settings = json.loads(Path(model, "tokenizer_config.json").read_text())
    template = "{{ raise_exception('System message required') }}"
    Path(model, "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    shown = said(app("tokens", model=str(model), chat="1"))
    assert "refuses a conversation of one user's turn (System message required)" in shown

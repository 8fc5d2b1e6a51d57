"""The snippet is Python with literals, whatever the prompt is."""

import ast
import contextlib
import io

import pytest

from npt_viz.question import Question
from npt_viz.reproducing import TITLES
from npt_viz.ui.cache.opened import Asked, Selection
from npt_viz.ui.shell.text import unmarked
from npt_viz.ui.widgets.export import python


def asked(prompt: str = "hi", layers=None, semantics: str = "", **options) -> Asked:
    source = Selection("some/model", "", "auto", "auto", "runs/a", "", semantics)
    return Asked(source, Question(prompt=prompt, layers=layers, **options))


def call(code: str, name: str) -> tuple[list, dict]:
    """The arguments of the call npt_viz.<name>(…) in a script."""
    found = next(
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"npt_viz.{name}"
    )
    literals = [ast.literal_eval(each) for each in found.args if isinstance(each, ast.Constant)]
    return literals, {each.arg: ast.literal_eval(each.value) for each in found.keywords}


@pytest.mark.parametrize("prompt", ["a 'b' \"c\"", "')\nimport os #", "\\n\t\u202e", '"""'])
def test_no_prompt_becomes_code(prompt):
    code = python(asked(prompt))
    assert call(code, "inspect")[0] == [prompt]
    assert code.count("import") - prompt.count("import") == 1


def test_what_was_chosen_is_in_the_call():
    code = python(asked(layers=(3, 15), mode="propagated", positions="trained", bos=False, semantics="N3"))
    assert call(code, "open_model")[0] == ["some/model"]
    assert call(code, "open_checkpoint") == (["runs/a"], {"semantics": "N3"})
    assert call(code, "inspect")[1] == {
        "layers": [3, 15],
        "mode": "propagated",
        "positions": "trained",
        "bos": False,
    }


def test_the_chat_template_is_said_only_where_it_is_used():
    assert "chat" not in call(python(asked()), "inspect")[1]
    assert call(python(asked(chat=True)), "inspect")[1]["chat"] is True


@pytest.mark.slow
@pytest.mark.parametrize("page", TITLES)
def test_the_script_of_a_page_prints_what_the_page_says(app, page):
    """With choices that are not the defaults, where the page has any."""
    said = {"layer": "1", "tok": "6", "mode": "propagated", "prompt": "The quick brown fox jumps"}
    said |= {"positions": "trained"} if page in ("tokens", "orthogonality") else {}
    found = app(page, **said)
    found.session_state[f"{page}_carry"] = True
    if page == "orthogonality":
        found.session_state["orthogonality_top"] = 7
    found.run()
    assert not found.exception and not found.error
    answer = unmarked(found.session_state["_sheet"].sentence)
    (script,) = [each.value for each in found.code if "import npt_viz" in each.value]
    labels = [each.proto.label for each in found.get("download_button")]
    assert "Notebook" in labels
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(script, page, "exec"), {})
    assert answer and answer in shown.getvalue().replace("\xa0", " ")

"""The snippet is Python with literals, whatever the prompt is."""

import ast

import pytest

from npt_viz.question import Question
from npt_viz.ui.cache.opened import Asked, Selection
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

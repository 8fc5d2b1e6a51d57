"""`compare` on tiny files: JSON against the difference of two `inspect`s, made token by token by hand."""

import html
import json
import re

import numpy as np
import pytest
from conftest import tiny_model
from onpage import save_variant

from npt_viz.__main__ import main
from npt_viz.results.comparison import COMPARED
from npt_viz.results.inspection import METRICS
from npt_viz.results.words import number

PROMPT, OTHER = "The old cat is asleep", "The new cats is asleep."


def strict(text: str):
    """JSON as the standard has it."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def call(capsys, on_disk):
    def called(
        command: str, *arguments: object, checkpoint: str = on_disk.checkpoint
    ) -> tuple[int, str, str]:
        first = (command, "--model", on_disk.model, "--checkpoint", checkpoint)
        status = main([str(argument) for argument in (*first, *arguments)])
        return status, *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    return save_variant(tmp_path_factory.mktemp("other") / "npt-other", tiny_model(), "N3")


def by_hand(a: str, b: str) -> list[tuple[int, int]]:
    """Tokens are bytes here: (position in A, position in B) of the two prompts, read off."""
    old, new = a.index("old"), b.index("new")
    shared = "The  cat is asleep"
    assert (
        a.replace("old", "") == shared and b.replace("new", "").replace("s is", " is").rstrip(".") == shared
    )
    start = [(i, i) for i in range(old)]
    middle = [(old + 3 + i, new + 3 + i) for i in range(len(" cat"))]
    end = [(a.index(" is") + i, b.index(" is") + i) for i in range(len(" is asleep"))]
    return [*start, *middle, *end]


@pytest.mark.parametrize("layers", ["1,3", "3"])
def test_json_is_the_difference_of_two_inspections(call, other, layers):
    asked = ("--layers", layers, "--b-layers", "1,3", "--b-prompt", OTHER, "--b-checkpoint", other)
    asked = (*asked, "--b-mode", "propagated", "--b-positions", "trained", "--metric", "cosine")
    status, out, _ = call("compare", "--prompt", PROMPT, *asked, "--json")
    found = strict(out)
    a = strict(call("inspect", "--prompt", PROMPT, "--layers", layers, "--json")[1])
    b_asked = ("--mode", "propagated", "--positions", "trained", "--json")
    b = strict(call("inspect", "--prompt", OTHER, *b_asked, checkpoint=other)[1])
    assert status == 0 and found["differs"] == ["checkpoint", *(["layers"] * (layers == "3")), "mode", "positions", "prompt"]  # fmt: skip
    same = [(each["a"], each["b"]) for each in found["tokens"] if each["kind"] == "same"]
    assert same == by_hand(PROMPT, OTHER)
    columns = [i for i, each in enumerate(found["tokens"]) if each["kind"] == "same"]

    def of(run: dict, layer: str, name: str) -> list:
        values = run["layers"][layer][name] if name in METRICS else run[name]
        return [each[0] if isinstance(each, list) else each for each in values]

    assert [row["layer_a"] for row in found["layers"]] == [int(layer) for layer in layers.split(",")]
    rows = [(row["numbers"], str(row["layer_b"])) for row in found["layers"]] + [(found["model"], "3")]
    assert {name for row, _ in rows for name in row} == set(COMPARED)
    for row, layer in rows:
        for name, numbers in row.items():
            values = of(a, layer, name), of(b, layer, name)
            for column, (i, j) in zip(columns, same, strict=True):
                x, y = values[0][i], values[1][j]
                difference = None if x is None or y is None else y - x
                got = [numbers[side][column] for side in ("a", "b", "difference")]
                assert got == pytest.approx([x, y, difference], rel=1e-4, abs=1e-6) if difference is not None else got[2] is None  # fmt: skip
            for column, token in enumerate(found["tokens"]):
                if token["kind"] != "same":
                    assert numbers["difference"][column] is None
                    assert (numbers["b"][column] is None) == (token["kind"] == "deleted" or values[1][token["b"]] is None)  # fmt: skip
    largest = found["largest"][0]
    assert largest["difference"] == pytest.approx(largest["b"] - largest["a"])
    assert [found["next"][largest["column"]][side][0][0] for side in "ab"] == [
        run["npt_top"][largest[f"token_{side}"]][0][0] for side, run in (("a", a), ("b", b))
    ]
    assert found["sentence"].startswith(("From A to B the cosine", "It cannot be told whether the cosine"))


def test_before_and_after_an_edit(call, tmp_path):
    recipe, prompt = tmp_path / "edit", "The cat is"
    asked = ("--source", "The cat is blue. The cat is", "--prompt", prompt, "--layer", "1,3", "--alpha", "2")
    edited = strict(call("edit", *asked, "--export", recipe, "--kind", "recipe", "--json")[1])
    found = strict(
        call("compare", "--prompt", prompt, "--b-edits", recipe, "--metric", "nll_base", "--json")[1]
    )
    assert found["differs"] == ["n_edits"] and found["b"]["n_edits"] == 1
    assert not np.allclose(found["model"]["nll_base"]["difference"][:-1], 0, atol=1e-3)
    # The base's own prediction after the edit is what `edit` previews.
    again = strict(call("compare", "--prompt", prompt, "--edits", recipe, "--b-edits", "none", "--json")[1])
    assert again["model"]["nll_base"]["a"][:-1] == pytest.approx(found["model"]["nll_base"]["b"][:-1])
    assert again["model"]["nll_base"]["b"][:-1] == pytest.approx(found["model"]["nll_base"]["a"][:-1])
    assert edited["kl"] > 1e-3


def test_two_layers_and_a_table_in_words(call):
    status, out, _ = call("compare", "--prompt", PROMPT, "--layer", 1, "--b-layer", 3, "--most", 3)
    assert status == 0 and "of layer 1 in A and 3 in B" in out
    assert out.startswith("A: npt-tiny on ") and "\nB: npt-tiny on " in out
    assert "share recovered, the largest differences" in out and len(out.split("largest differences\n")[1].splitlines()) == 4  # fmt: skip
    asked = ("--b-layer", 1, "--bos", "yes", "--keep-sinks", "--top-k", 3, "--json")
    found = json.loads(call("compare", "--prompt", PROMPT, *asked)[1])
    assert found["tokens"][0]["glyph"] == "<bos>" and len(found["next"][0]["a"]) == 3
    assert (
        len(found["largest"]) == min(20, len(found["tokens"])) and " 1 sink left out" not in found["sentence"]
    )
    assert [found[side]["layer"] for side in "ab"] == [1, 1] and found["differs"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--b-layer", 2), "layer 2 does not run as NPT in B"),
        (("--metric", "beauty"), "--metric beauty does not exist; choose one of scalar"),
        (("--b-checkpoint", "no-such-folder"), "no-such-folder"),
        (("--b-edits", "no-such-recipe"), "no-such-recipe"),
    ],
)
def test_bad_requests_are_a_sentence(call, arguments, words):
    status, out, err = call("compare", "--prompt", PROMPT, *arguments)
    assert status == 1 and not out and words in err and len(err.strip().splitlines()) == 1


def test_prompts_with_nothing_in_common_are_said_to_be_so(call):
    status, out, _ = call("compare", "--prompt", "abc", "--b-prompt", "xyzw", "--json")
    found = strict(out)
    assert status == 0 and {each["kind"] for each in found["tokens"]} == {"deleted", "inserted"}
    assert "have no token in common" in found["sentence"] and "(A has 3 tokens, B 4)" in found["sentence"]
    assert found["largest"] == [] and found["spread"]["size"] is None


def test_figures_and_list_are_one_file_that_loads_nothing(call, tmp_path):
    file, prompt = tmp_path / "a.html", "<b>old</b> cat"
    status, out, err = call(
        "compare", "--prompt", prompt, "--b-prompt", "<b>new</b> cat", "--html", file, "--json"
    )
    found, written = strict(out), file.read_text(encoding="utf-8")
    assert status == 0 and f"figures in {file}" in err
    assert html.escape(found["sentence"]) in written and "<b>old" not in written.split("<body>")[1]
    assert "<script src" not in written and "<link" not in written.split("<body>")[1]
    first = found["largest"][0]
    cells = re.findall(r"<td>(.*?)</td>", written)[:6]
    assert cells == [html.escape(first["glyph"]), str(first["token_a"]), str(first["token_b"]), *(number(first[name]) for name in ("a", "b", "difference"))]  # fmt: skip


def test_a_script_comes_to_the_same_numbers(call, other, tmp_path, capsys):
    file = tmp_path / "again.py"
    asked = (
        "--prompt",
        PROMPT,
        "--b-prompt",
        OTHER,
        "--b-checkpoint",
        other,
        "--b-layers",
        "1",
        "--layer",
        3,
        "--b-layer",
        1,
    )
    status, out, err = call(
        "compare", *asked, "--mode", "propagated", "--metric", "cosine", "--notebook", file, "--json"
    )
    found, names = strict(out), {}
    assert status == 0 and f"the way to these numbers in {file}" in err
    exec(file.read_text(encoding="utf-8"), names)
    assert capsys.readouterr().out.splitlines()[0] == found["sentence"]
    expected = [np.nan if x is None else x for x in found["layers"][0]["numbers"]["cosine"]["difference"]]
    np.testing.assert_allclose(names["found"].columns("cosine").difference, expected, rtol=1e-4, atol=1e-6)
    status, _, err = call("compare", *asked, "--notebook", tmp_path / "again.txt")
    assert status == 1 and "ends in .ipynb" in err

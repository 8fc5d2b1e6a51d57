"""A page's script and notebook come to the page's own sentence and numbers, through public names alone."""

import ast
import contextlib
import io
import json
import math
import os
import re

import numpy as np
import pytest

import npt_viz
from npt_viz.errors import NptVizError
from npt_viz.places import ROOT
from npt_viz.question import Question
from npt_viz.reproducing import TITLES, Beneath, Opened, cells, notebook, script

PROMPT = 'the \'cat\' """ \\ {x} `the` $dog'

CHOICES = {
    "tokens": dict(layer=1),
    "reconstruction": dict(layer=1),
    "directions": dict(layer=1, target="up"),
    "orthogonality": dict(layer=1, target="gate", top=4, centred=False, axes_from="bundled texts"),
    "attribution": dict(quantity=dict(kind="scalar", token=7, layer=1, target="gate", component=1)),
    "permanent_update": dict(
        layers=[1], tokens=(7,), prompt="the dog", alpha=1.5, rule={"mode": "propagated"}
    ),
    "transplant": dict(prompt="the dog", layers=[1, 3], donor_token=7, strength=3.0),
    "compare": dict(layers=(3, 1), of_a=Question(prompt="the 'cat' `the` dog", layers=(3,)), metric="cosine"),
}
PAGES = tuple(CHOICES)


def opened(on_disk) -> Opened:
    return Opened(model=on_disk.model, checkpoint=on_disk.checkpoint)


def run(text: str) -> tuple[dict, str]:
    """(names after the script, what it printed)."""
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(text, "script", "exec"), names)
    return names, printed.getvalue()


def words(text: str) -> str:
    """Without the marks that a page puts around exact and strong parts, and with plain spaces."""
    return re.sub(r"\\(.)", r"\1", text.replace("**", "")).replace("\u00a0", " ").replace("`", "")


def set_on(page, **state):
    for name, value in state.items():
        page.session_state[name] = value
    return page.run()


def shown(app, name: str):
    """The page as it stands with CHOICES."""
    of_a = dict(
        a_prompt=CHOICES["compare"]["of_a"].prompt, a_mode="local", a_on="3", a_layer="3", metric="cosine"
    )
    page = app(
        name, prompt=PROMPT, layer="1", tok="7", mode="propagated", **(of_a if name == "compare" else {})
    )
    match name:
        case "directions":
            page = set_on(page, directions_target="up")
        case "orthogonality":
            page = set_on(
                page, orthogonality_top=4, orthogonality_centred=False, orthogonality_from="bundled texts"
            )
        case "attribution":
            page = set_on(page, attribution_component=1)
        case "permanent_update":
            page = set_on(page, edit_prompt="the dog", edit_alpha=1.5)
        case "transplant":
            page = set_on(page, transplant_prompt="the dog", transplant_strength=3.0)
    assert not page.exception and not page.error
    return page


def question(**changes) -> Question:
    return Question(prompt=PROMPT, mode="propagated", **changes)


@pytest.mark.parametrize("name", PAGES)
def test_a_script_says_what_its_page_says(app, on_disk, name):
    page = shown(app, name)
    _, printed = run(script(name, opened(on_disk), question(), **CHOICES[name]))
    sentence = words(printed.splitlines()[0])
    assert sentence in [words(each.value) for each in page.markdown]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_carries_away_says_what_it_says(app, name):
    page = set_on(shown(app, name), **{f"{name}_carry": True})
    assert not page.exception and not page.error
    _, printed = run(page.code[-1].value)
    assert words(printed.splitlines()[0]) in [words(each.value) for each in page.markdown]
    assert [button.label for button in page.get("download_button")].count("Notebook") == 1


NUMBERS = {
    "tokens": lambda names: names["run"].layers[1].recovered,
    "reconstruction": lambda names: names["fit"].recovered,
    "directions": lambda names: names["result"].exact.cosines,
    "orthogonality": lambda names: names["result"].layers[1].shares,
    "attribution": lambda names: names["results"][0].scores,
    "permanent_update": lambda names: names["preview"].after.kl,
    "transplant": lambda names: names["result"].transplanted.kl,
    "compare": lambda names: names["found"].columns("cosine").difference,
}


def by_hand(name: str, on_disk):
    """The same numbers from the analyses themselves."""
    from npt_viz.analysis.directions import directions
    from npt_viz.analysis.orthogonality import orthogonality, reference_vectors
    from npt_viz.analysis.reconstruction import reconstruction
    from npt_viz.texts import bundled_texts

    model = npt_viz.open_model(on_disk.model)
    checkpoint = npt_viz.open_checkpoint(on_disk.checkpoint, model)
    run = npt_viz.inspect(model, checkpoint, PROMPT, mode="propagated")
    match name:
        case "tokens":
            return run.layers[1].recovered
        case "reconstruction":
            return reconstruction(model, checkpoint, question()).propagated[1].recovered
        case "directions":
            return directions(model, checkpoint, run, 1, target="up").exact.cosines
        case "orthogonality":
            shared = dict(layers=[1], target="gate", of="h")
            texts = bundled_texts("heldout")
            reference = reference_vectors(model, checkpoint, texts, mode="propagated", **shared)
            return (
                orthogonality(model, checkpoint, run, reference=reference, top=4, centred=False, **shared)
                .layers[1]
                .shares
            )
        case "attribution":
            quantity = npt_viz.Quantity(**CHOICES[name]["quantity"])
            return npt_viz.attribution(model, checkpoint, question(), quantity).scores
        case "permanent_update":
            return npt_viz.preview_update(model, checkpoint, PROMPT, 1, 7, 1.5, prompt="the dog").after.kl
        case "compare":
            a = npt_viz.inspect(model, checkpoint, CHOICES[name]["of_a"])
            return npt_viz.compare(a, run, layer=(3, 1)).columns("cosine").difference
        case "transplant":
            return npt_viz.transplant(
                model,
                checkpoint,
                PROMPT,
                "the dog",
                layers=[1, 3],
                donor_token=7,
                strength=3.0,
                mode="propagated",
            ).transplanted.kl


@pytest.mark.parametrize("name", PAGES)
def test_a_script_has_the_numbers_of_the_analysis(on_disk, name):
    names, _ = run(script(name, opened(on_disk), question(), **CHOICES[name]))
    np.testing.assert_allclose(NUMBERS[name](names), by_hand(name, on_disk), rtol=1e-5, atol=1e-7)


def printed_numbers(text: str) -> list[float]:
    """All of them, in order: another process may round the last digit otherwise."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d*)?(?:e[+-]\d+)?", text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_runs_to_the_numbers_of_the_script(on_disk, tmp_path, name):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    text = notebook(name, opened(on_disk), question(), sentence="`said` <b>", **CHOICES[name])
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    done = client.execute(env=os.environ | {"PYTHONPATH": str(ROOT)})
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    printed = "".join(
        out.text
        for cell in code
        for out in cell.outputs
        if out.output_type == "stream" and out.name == "stdout"
    )
    expected = run(script(name, opened(on_disk), question(), **CHOICES[name]))[1]
    assert printed.splitlines()[0] == expected.splitlines()[0]
    np.testing.assert_allclose(printed_numbers(printed), printed_numbers(expected), rtol=1e-4, atol=1e-6)
    html = [out.data for cell in code for out in cell.outputs if "data" in out and "text/html" in out.data]
    assert html and "attachShadow" in html[0]["text/html"]
    if name in ("reconstruction", "directions", "orthogonality", "attribution"):
        assert "Plotly.newPlot(" in html[-1]["text/html"]


@pytest.mark.parametrize("name", PAGES)
def test_only_public_names_are_used_and_every_value_is_a_literal(on_disk, name):
    text = script(name, opened(on_disk), question(layers=(1, 3), positions="trained"), **CHOICES[name])
    tree = ast.parse(text)
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert imported == ["npt_viz"] and not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "npt_viz"
    }
    assert used <= set(npt_viz.__all__)
    assert PROMPT in [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def test_a_hostile_prompt_stays_text(on_disk):
    hostile = "'); import os; os.system('x') #\n\"\"\"\u2028"
    text = script("tokens", opened(on_disk), Question(prompt=hostile), layer=1)
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert not any("os" in call.split(".") for call in calls)
    book = json.loads(
        notebook("tokens", opened(on_disk), Question(prompt=hostile), sentence="```\n# x", layer=1)
    )
    [said] = [cell["source"] for cell in book["cells"] if "The page said" in cell["source"]]
    assert said.splitlines()[2] == "``````text"


def test_what_was_chosen_is_in_the_script(on_disk):
    named = Opened(model="m", checkpoint="c", semantics="N2", dtype="bfloat16", device="cuda:1")
    text = script("tokens", named, Question(prompt="a b", bos=True, layers=(3,)), layer=3)
    assert "npt_viz.open_model('m', dtype='bfloat16', device='cuda:1')" in text
    assert "npt_viz.open_checkpoint('c', model, semantics='N2')" in text
    assert "npt_viz.Question(prompt='a b', layers=(3,), bos=True)" in text
    two = Beneath(digests=("a1", "b2"))
    edits = script(
        "permanent_update", named, Question(prompt="a"), beneath=two, **CHOICES["permanent_update"]
    )
    assert "rule=rule, ledger=ledger," in edits and "['a1', 'b2']" in edits
    other = CHOICES["compare"] | dict(checkpoint_of_a="d", semantics_of_a="N3", beneath=(Beneath(), two))
    compared = script("compare", named, Question(prompt="a"), **other)
    assert "other = npt_viz.open_checkpoint('d', model, semantics='N3')" in compared
    assert (
        "run = npt_viz.inspect(model, checkpoint, question, edits=beneath_b)" in compared
        and "beneath_a" not in compared
    )


@pytest.fixture(scope="module")
def three_edits(on_disk, tmp_path_factory):
    """(the model and checkpoint, a ledger of three updates, its recipe)."""
    model = npt_viz.open_model(on_disk.model)
    checkpoint = npt_viz.open_checkpoint(on_disk.checkpoint, model)
    ledger = npt_viz.Ledger(model)
    for layer, token, alpha in ((1, 2, 1.5), (3, 5, 2.0), (1, 7, -1.0)):
        ledger.apply(npt_viz.update_from(model, checkpoint, PROMPT, layer=layer, token=token, alpha=alpha))
    recipe = tmp_path_factory.mktemp("recipe") / "edits"
    ledger.export(recipe, "recipe")
    return model, checkpoint, ledger, str(recipe)


def of(ledger: npt_viz.Ledger, *which: int) -> npt_viz.Ledger:
    return npt_viz.Ledger.restored(ledger.model, [ledger.updates[i] for i in which])


def test_the_edits_beneath_are_those_of_the_page_and_not_the_first_of_the_recipe(on_disk, three_edits):
    model, checkpoint, ledger, recipe = three_edits
    chosen = {"a": (1,), "b": (2, 0)}
    beneath = tuple(
        Beneath(recipe=recipe, digests=tuple(ledger.updates[i].digest() for i in which))
        for which in chosen.values()
    )
    asked = dict(of_a=question(), layers=(3, 3), beneath=beneath, metric="nll_base")
    names, _ = run(script("compare", opened(on_disk), question(), **asked))
    a, b = (
        npt_viz.inspect(model, checkpoint, question(), edits=of(ledger, *which)) for which in chosen.values()
    )
    wanted = npt_viz.compare(a, b, layer=3).columns("nll_base")
    first = npt_viz.inspect(model, checkpoint, question(), edits=of(ledger, 0))
    np.testing.assert_allclose(names["found"].columns("nll_base").a, wanted.a, rtol=1e-6)
    np.testing.assert_allclose(names["found"].columns("nll_base").b, wanted.b, rtol=1e-6)
    assert not np.allclose(first.nll_base[:-1], a.nll_base[:-1], rtol=1e-3)


def test_a_preview_has_the_page_s_earlier_edits_beneath(on_disk, three_edits):
    model, checkpoint, ledger, recipe = three_edits
    beneath = Beneath(recipe=recipe, digests=(ledger.updates[1].digest(),))
    text = script(
        "permanent_update", opened(on_disk), question(), beneath=beneath, **CHOICES["permanent_update"]
    )
    names, _ = run(text)
    wanted = npt_viz.preview_update(
        model, checkpoint, PROMPT, 1, 7, 1.5, prompt="the dog", ledger=of(ledger, 1)
    )
    np.testing.assert_allclose(names["preview"].after.kl, wanted.after.kl, rtol=1e-6)


def test_an_edit_that_the_recipe_has_not_is_said_by_its_digest(three_edits):
    model, _, _, recipe = three_edits
    with pytest.raises(NptVizError, match="has no update 0123 among its 3; export the ledger that has it"):
        npt_viz.updates_from_recipe(recipe, model, digests=["0123"])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.float32(1.5)], ids=str)
def test_every_number_of_a_script_is_python(on_disk, value):
    for name, choice in (
        ("permanent_update", "alpha"),
        ("transplant", "strength"),
        ("permanent_update", "rule"),
    ):
        said = {"damping": value} if choice == "rule" else value
        tree = ast.parse(script(name, opened(on_disk), question(), **CHOICES[name] | {choice: said}))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & {"inf", "nan", "np"}
        given = [
            each.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for each in node.keywords
            if each.arg in (choice, "damping")
        ]
        assert any(np.array_equal(eval(ast.unparse(each)), value, equal_nan=True) for each in given)


def test_every_page_with_a_title_has_its_cells(on_disk):
    assert set(TITLES) == set(PAGES)
    for name in PAGES:
        steps = cells(name, opened(on_disk), question(), **CHOICES[name])
        assert len(steps) >= 4 and all(step.words and step.code for step in steps)
    with pytest.raises(NptVizError, match="cannot be reproduced"):
        script("runs", opened(on_disk), question())
    with pytest.raises(TypeError):
        script("tokens", opened(on_disk), question(), layr=1)


def test_a_result_without_a_page_is_named():
    with pytest.raises(NptVizError, match="no page says a sentence of dict"):
        npt_viz.answer({})

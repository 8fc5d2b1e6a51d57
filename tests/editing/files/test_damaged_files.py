"""Recipes and histories damaged in every place by every kind of wrong value: a sentence or an edit, never a traceback."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from conftest import specimen

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.cases import cases_from_text
from npt_viz.editing.files import recipe
from npt_viz.editing.ledger import Entry
from npt_viz.editing.making.from_source import update_from
from npt_viz.editing.making.history import updates_from_history_text
from npt_viz.errors import NptVizError

WRONG = (
    None,
    True,
    -1,
    99999,
    10**400,
    1e308,
    float("nan"),
    "x",
    "²",
    "-1.gate",
    [],
    [[]],
    [None],
    {},
    {"a": 1},
)
GONE = object()
HISTORY = {
    "injected_facts": {
        "1": [
            {
                "fact": "a is b",
                "position": "last",
                "alpha": 0.4,
                "layer_idx": 1,
                "delta_norm": 3.0,
                "projections_modified": ["gate", "up", "down"],
            }
        ],
        "3": [{"fact": "c", "position": "all"}],
    }
}


@pytest.fixture(scope="module")
def npt(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N5", layer, seed=layer) for layer in (1, 3)}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


ALL_OR_SOME = pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow, id="all"), pytest.param(11, id="every eleventh")]
)
"""Eleven shares no factor with the number of wrong values: every kind of damage is among the some."""


def places(value, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def damaged(content: dict) -> Iterator[dict]:
    """The content with one value replaced or taken away, for every value but the whole."""
    for path in places(content):
        for wrong in (GONE, *WRONG) if path else ():
            changed = copy.deepcopy(content)
            at = changed
            for key in path[:-1]:
                at = at[key]
            if wrong is GONE:
                del at[path[-1]]
            else:
                at[path[-1]] = wrong
            yield changed


def refused(read: Callable[[], list]) -> bool:
    """Whether it is refused in a line; what is read instead can be shown."""
    try:
        for number, update in enumerate(read(), 1):
            assert Entry(number, update).sentence and update.norm() >= 0
    except NptVizError as error:
        assert "\n" not in str(error)
        return True
    return False


@ALL_OR_SOME
def test_a_recipe_with_any_damage_under_a_seal_of_its_own_is_a_sentence_or_an_edit(tiny_llama, npt, step):
    update = update_from(tiny_llama, npt, "one", layer=[1, 3], alpha=0.5)
    content = json.loads(recipe.recipe_text(tiny_llama, [update]))
    del content["seal"]
    outcomes = [
        refused(
            lambda c=changed: recipe.updates_from_text(
                json.dumps(c | {"seal": recipe._seal(c)}), "edits.json", tiny_llama
            )
        )
        for changed in islice(damaged(content), 0, None, step)
    ]
    # What is left out of an origin and has a default is read; most of the rest is refused.
    assert len(outcomes) > 1000 / step and 0.5 < sum(outcomes) / len(outcomes) < 1


def test_a_recipe_that_names_no_base_is_refused(tiny_llama, npt):
    update = update_from(tiny_llama, npt, "one", layer=1)
    content = json.loads(recipe.recipe_text(tiny_llama, [update]))
    del content["seal"]
    content["edits"][0]["base"] = {}
    text = json.dumps(content | {"seal": recipe._seal(content)})
    with pytest.raises(NptVizError, match="edit 1 is damaged"):
        recipe.updates_from_text(text, "edits.json", tiny_llama)


def test_the_seal_is_the_hash_of_the_content_in_ascii_with_sorted_keys(tiny_llama, npt):
    assert recipe._seal({"b": [1.5], "a": "é"}) == hashlib.sha256(rb'{"a": "\u00e9", "b": [1.5]}').hexdigest()
    text = recipe.recipe_text(tiny_llama, [update_from(tiny_llama, npt, "né", layer=1)])
    assert "né" in text and json.loads(text)["base"]["name"] == "tiny"
    for again in (json.dumps(json.loads(text), sort_keys=True), json.dumps(json.loads(text), indent=7)):
        (read,) = recipe.updates_from_text(again, "edits.json", tiny_llama)
        assert read.origins[0].prompt == "né"


@pytest.mark.parametrize(
    ("part", "name", "value", "reason"),
    [
        ("base", "config", None, "base is no fingerprint"),
        ("base", "layers", None, "base is no fingerprint"),
        ("origin", "layers", None, "layers is None"),
        ("origin", "tokens", ["x"], r"tokens is \['x'\]"),
        ("origin", "prompt", 3, "prompt is 3"),
        ("factors", "1.side", {}, "'1.side' names no projection"),
    ],
)
def test_the_damaged_part_of_a_recipe_is_named(tiny_llama, npt, part, name, value, reason):
    content = json.loads(recipe.recipe_text(tiny_llama, [update_from(tiny_llama, npt, "one", layer=1)]))
    del content["seal"]
    (edit,) = content["edits"]
    (edit["origins"][0] if part == "origin" else edit[part])[name] = value
    text = json.dumps(content | {"seal": recipe._seal(content)})
    with pytest.raises(NptVizError, match=rf"edits.json: edit 1 is damaged \(\w+: {reason}\)"):
        recipe.updates_from_text(text, "edits.json", tiny_llama)


@pytest.mark.parametrize("damage", ["!{}", "{}!", "{}AAAA"])
def test_factors_that_are_not_what_was_packed_are_refused(tiny_llama, npt, damage):
    content = json.loads(recipe.recipe_text(tiny_llama, [update_from(tiny_llama, npt, "one", layer=1)]))
    del content["seal"]
    v_a = content["edits"][0]["factors"]["1.gate"]["v_a"]
    v_a["float32"] = damage.format(v_a["float32"])
    text = json.dumps(content | {"seal": recipe._seal(content)})
    with pytest.raises(NptVizError, match=r"edits.json: edit 1 is damaged"):
        recipe.updates_from_text(text, "edits.json", tiny_llama)


@ALL_OR_SOME
def test_a_history_with_any_damage_is_a_sentence_a_note_or_an_edit(tiny_llama, npt, step):
    n_replayed = 0
    for content in islice(damaged(HISTORY), 0, None, step):
        try:
            replayed = updates_from_history_text(json.dumps(content), "history.json", tiny_llama, npt)
        except NptVizError as error:
            assert "\n" not in str(error)
            continue
        n_replayed += len(replayed.updates)
        assert all("\n" not in note for note in replayed.notes)
    assert n_replayed > 100 / step


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "\x00"])
def test_json_that_no_reader_can_hold_is_a_sentence(tiny_llama, npt, text):
    for read in (
        lambda: recipe.updates_from_text(text, "it.json", tiny_llama),
        lambda: updates_from_history_text(text, "it.json", tiny_llama, npt),
        lambda: cases_from_text(text, "it.json", is_csv=False),
    ):
        with pytest.raises(NptVizError, match="is no JSON") as caught:
            read()
        assert "\n" not in str(caught.value)

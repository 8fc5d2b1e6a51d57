"""Numbers of entries: every one comes back exactly, without text nothing of a prompt is in them, and damage is a sentence."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import specimen

from npt_viz.capture.inspection import inspect
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.sentences.tokens import tokens
from npt_viz.workspace.numbers import packed, packed_tables, unpacked, unpacked_tables, without_text

PROMPT = "secret 東京 <b>cat</b>"


@pytest.fixture(scope="module")
def run(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N5", layer, components=2, seed=layer) for layer in (1, 3)}
    return inspect(tiny_llama, Checkpoint.from_adapters(adapters, tiny_llama, "two layers"), PROMPT)


def flat(value, path=""):
    """Path -> leaf of everything in a dataclass, mapping or tuple."""
    if hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "items"):
        return {
            key: leaf for name, each in value.items() for key, leaf in flat(each, f"{path}/{name}").items()
        }
    if isinstance(value, tuple | list):
        return {
            key: leaf for i, each in enumerate(value) for key, leaf in flat(each, f"{path}/{i}").items()
        } | {path: len(value)}
    return {path: value}


def test_an_inspection_comes_back_exactly(run):
    before, after = flat(run), flat(unpacked(packed(run)))
    assert before.keys() == after.keys() and len(before) > 100
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == after[name].dtype, name
            np.testing.assert_array_equal(value, after[name], err_msg=name)
        else:
            assert type(value) is type(after[name]) and value == after[name], name
    assert str(tokens(unpacked(packed(run)), 3)) == str(tokens(run, 3))


def test_an_inspection_without_predictions_and_with_other_numbers_of_components(run):
    layers = dict(run.layers)
    layers[1] = replace(layers[1], scalars={"gate": np.zeros((len(run.pieces), 0), np.float32)})
    bare = replace(
        run, layers=layers, kl=None, nll_base=None, nll_npt=None, base_top=None, npt_top=None, notes=("a",)
    )
    back = unpacked(packed(bare))
    assert back.kl is None and back.npt_top is None and back.notes == ("a",)
    assert back.layers[1].scalars["gate"].shape == (len(run.pieces), 0)


def test_without_text_nothing_of_the_prompt_is_kept_and_the_numbers_are(run):
    bare = without_text(run)
    text = zlib.decompress(packed(bare)).decode("latin-1")
    assert all(
        word not in text
        for word in (
            "secret",
            "東".encode().decode("latin-1"),
            "cat",
            "␣".encode().decode("latin-1"),
            "\\u2423",
            "\\u6771",
        )
    )
    back = unpacked(packed(bare))
    assert back.tokens == tuple(f"#{i}" for i in range(len(run.pieces))) and set(back.token_ids) == {0}
    np.testing.assert_array_equal(back.layers[3].recovered, run.layers[3].recovered)
    np.testing.assert_array_equal(back.kl, run.kl)


def _changed(content: bytes, **changes) -> bytes:
    data = zlib.decompress(content)
    start = 8 + int.from_bytes(data[:8])
    head = json.dumps(json.loads(data[8:start]) | changes).encode()
    return zlib.compress(len(head).to_bytes(8) + head + data[start:])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-20],
        lambda content: b"x" + content,
        lambda content: zlib.compress(b"\xff" * 64),
        lambda content: _changed(content, arrays=[]),
        lambda content: _changed(content, arrays=[["|O", [3]]] * 99),
        lambda content: _changed(content, arrays=[["<f4", [2**40]]] * 99),
        lambda content: _changed(content, arrays=[["<f4", [-1]]] * 99),
        lambda content: _changed(content, inspection={}),
        lambda content: _changed(content, inspection=[1]),
    ],
)
def test_damaged_numbers_are_a_sentence(run, damage):
    with pytest.raises(NptVizError, match="kept of this entry are damaged"):
        unpacked(damage(packed(run)))
    with pytest.raises(NptVizError, match="kept of this entry are damaged"):
        unpacked_tables(damage(packed(run)))


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("npt_viz.workspace.numbers.MOST_UNPACKED", 1000)
    with pytest.raises(NptVizError, match="damaged"):
        unpacked(zlib.compress(bytes(10_000)))


def test_tables_come_back_and_without_text_they_have_numbers_alone():
    tables = {
        "next token": [{"token": "cat", "before": 0.25, "rank": 3}, {"token": "<b>", "before": float("nan")}]
    }
    assert unpacked_tables(packed_tables(tables)) == {
        "next token": [{"token": "cat", "before": 0.25, "rank": 3}, {"token": "<b>", "before": None}]
    }
    bare = unpacked_tables(packed_tables(tables, with_text=False))
    assert bare["next token"][0] == {"token": "", "before": 0.25, "rank": 3}

"""Every public function, with each of its arguments wrong in turn: it answers, or says a sentence."""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import is_dataclass
from inspect import Parameter, signature
from pathlib import Path

import pytest
import torch
from conftest import specimen, tiny_model

import npt_viz
from npt_viz.errors import NptVizError

PROMPT = "the old cat"

WRONG = {
    "None": None, "3": 3, "-9": -9, "a billion": 10**9, "1.5": 1.5, "nan": math.nan, "inf": math.inf, "True": True,
    "empty text": "", "text": "no such thing", "NUL": "a\0b", "bytes": b"x", "path": Path("no/such/file"), "tuple": (1, "a"),
    "empty tuple": (), "mapping": {"a": 1}, "empty mapping": {}, "object": object(), "tensor": torch.ones(2, 3),
}  # fmt: skip


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> dict:
    """Public name -> arguments with which it works; those that take long or the network have none that lets them begin."""
    home = tmp_path_factory.mktemp("right")
    model = tiny_model(4)
    adapters = {1: specimen(model, "N4", 1), 3: specimen(model, "N4", 3)}
    npt_viz.save_checkpoint(home / "native", adapters, model, recipe={}, figures={}, licence="none")
    checkpoint = npt_viz.open_checkpoint(home / "native", model)
    run = npt_viz.inspect(model, checkpoint, PROMPT)
    ledger = npt_viz.Ledger(model)
    ledger.apply(npt_viz.update_from(model, checkpoint, PROMPT, layer=1))
    ledger.export(home / "edits", "recipe")
    log = home / "run.csv"
    log.write_text("step,loss\n1,0.5\n2,0.25\n")
    with_model = dict(model=model, checkpoint=checkpoint)
    asked = with_model | dict(prompt=PROMPT)
    question, texts = with_model | dict(question=PROMPT), ["the old cat is on the mat", "a dog"]
    return {
        "AdapterSpec": dict(layers=(1,)),
        "Ledger": dict(model=model),
        "NptVizError": dict(message="x"),
        "Quantity": dict(kind="scalar", token=1, layer=1),
        "Question": dict(prompt=PROMPT),
        "UpdateRule": {},
        "answer": dict(result=run),
        "attribution": asked | dict(quantity=npt_viz.Quantity(kind="scalar", token=3, layer=1)),
        "Corpus": dict(paths=("sample",)),
        "bundled_texts": {},
        "compare_scans": dict(a=home / "scan-a", b=home / "scan-b"),
        "read_scan": dict(folder=home / "scan-a"),
        "scan": with_model | dict(corpus=home / "no-corpus"),
        "compare": dict(a=run, b=run),
        "convert": dict(source=home / "native", destination=home / "converted", overwrite=True),
        "directions": with_model | dict(run=run, layer=1),
        "fetch_packaged": dict(alias="no such alias"),
        "health": with_model | dict(texts=texts, quick=True),
        "inspect": asked,
        "open_checkpoint": dict(path=home / "native", model=model),
        "open_model": dict(name=home / "no-model"),
        "orthogonality": with_model | dict(run=run),
        "positions_compared": question,
        "preview_update": with_model | dict(source=PROMPT, layer=1),
        "probe": with_model | dict(texts=texts),
        "push_checkpoint": dict(checkpoint=checkpoint, hub_id="someone/tiny"),
        "read_experiment": dict(folder=home),
        "read_experiment_spec": dict(path=home / "spec.toml"),
        "read_run": dict(source=log),
        "read_runs": dict(source=log),
        "reconstruction": question,
        "reference_vectors": with_model | dict(texts=texts),
        "run_experiment": dict(model=model, experiment=None, folder=home / "experiment"),
        "save_checkpoint": dict(
            folder=home / "saved", adapters=adapters, model=model, recipe={}, figures={}, licence="none", overwrite=True
        ),
        "train": dict(model=model, checkpoint_or_spec=checkpoint, texts=texts, steps=1, tokens=64, window=8),
        "transplant": with_model | dict(donor=PROMPT, prompt=PROMPT, layers=[1]),
        "update_from": with_model | dict(source=PROMPT, layer=1),
        "updates_from_recipe": dict(path=home / "edits", model=model),
        "watch": dict(folder=home / "watched", model=model, adapters=checkpoint, texts=texts),
    }  # fmt: skip


def test_every_public_name_is_tried(right):
    assert set(right) == set(npt_viz.__all__)


def called(name: str, arguments: dict):
    """The call, past the import hook of the tests, whose own checks stand before those of a dataclass."""
    public = getattr(npt_viz, name)
    init = getattr(public.__init__, "__wrapped__", None) if is_dataclass(public) else None
    if init is None or not hasattr(init, "__wrapped__"):
        return public(**arguments)
    return init(object.__new__(public), **arguments)


def outcome(name: str, arguments: dict) -> str:
    """What a call says: its sentence, or nothing where it answers. Any other error is the test's failure."""
    try:
        found = called(name, arguments)
        if isinstance(found, Generator):
            with closing(found):
                next(found, None)
    except NptVizError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", npt_viz.__all__)
def test_a_wrong_argument_gets_a_sentence(right, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faults = []
    for parameter, described in signature(getattr(npt_viz, name)).parameters.items():
        if described.kind is Parameter.VAR_KEYWORD:
            continue
        for words, value in WRONG.items():
            try:
                said = outcome(name, right[name] | {parameter: value})
            except Exception as error:
                faults.append(f"{parameter} = {words}: {type(error).__name__}: {error}"[:200])
            else:
                assert "\n" not in said and len(said) < 1000, (parameter, words)
    assert not faults, "\n".join(faults)

"""`edit`, `transplant` and `score` on tiny files: the numbers of the library, and exports that load."""

import json
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import npt_viz
from npt_viz.__main__ import main
from npt_viz.commands import edit, transplant
from npt_viz.editing.cases import BUILT_IN
from npt_viz.editing.files.exporting import EXPORT_KINDS
from npt_viz.editing.judging.study import trials
from npt_viz.editing.judging.sweep import alpha_sweep
from npt_viz.editing.making.rules import RULES
from npt_viz.editing.transplant import OPERATIONS
from npt_viz.model.tokens import encode
from npt_viz.question import MODES, POSITIONS

SOURCE, PROMPT = "The cat is blue. The cat is", "The cat is"


def strict(text: str):
    """JSON as the standard has it."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def call(capsys, on_disk):
    """call("edit", …): the exit status, stdout and stderr, on the tiny model and checkpoint."""

    def called(command: str, *arguments: object) -> tuple[int, str, str]:
        first = (command, "--model", on_disk.model, "--checkpoint", on_disk.checkpoint)
        status = main([str(argument) for argument in (*first, *arguments)])
        return status, *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def opened(on_disk):
    model = npt_viz.open_model(on_disk.model)
    return model, npt_viz.open_checkpoint(on_disk.checkpoint, model)


SHORT = ("A quiet morning.",)
"""Neutral text: in the built-in ones each of some hundred bytes is a token here."""


@pytest.fixture
def short_texts(monkeypatch):
    """Sweeps and scores over short texts."""
    sweep = partial(alpha_sweep, unrelated=("xy", "z"), neutral=SHORT)
    monkeypatch.setattr("npt_viz.editing.judging.sweep.alpha_sweep", sweep)
    monkeypatch.setattr("npt_viz.editing.judging.study.trials", partial(trials, neutral=SHORT))
    monkeypatch.setattr("npt_viz.editing.judging.study.whitening_texts", lambda: SHORT)


EDIT = ("--source", SOURCE, "--prompt", PROMPT, "--layer", "1,3")


def test_edit_prints_the_numbers_of_the_library(call, opened):
    status, out, _ = call("edit", *EDIT, "--token", "-2", "--alpha", "0.5", "--json")
    found = strict(out)
    preview = npt_viz.preview_update(*opened, SOURCE, [1, 3], -2, 0.5, prompt=PROMPT)
    assert status == 0
    for side, outcome in (("base_top", preview.before), ("updated_top", preview.after)):
        assert [row[:2] for row in found[side]] == [list(row[:2]) for row in outcome.next_tokens]
        np.testing.assert_allclose(
            [row[2] for row in found[side]], [row[2] for row in outcome.next_tokens], rtol=1e-5
        )
    assert found["kl"] == pytest.approx(preview.kl, rel=1e-4)
    assert found["update_norm"] == pytest.approx(preview.update.norm())
    assert found["recovery"]["recovered"] == pytest.approx(preview.recovery.recovered, rel=1e-3)
    assert {row["dtype"] for row in found["realised"]} == {"float32"} and len(found["realised"]) == 6


@pytest.mark.parametrize("kind", ["lora", "merged", "recipe"])
def test_edit_exports_what_it_previewed(call, opened, on_disk, tmp_path, kind):
    status, out, _ = call("edit", *EDIT, "--export", tmp_path / "out", "--kind", kind, "--json")
    found = strict(out)
    assert status == 0 and found["exported"]["folder"] == str(tmp_path / "out")
    expected = npt_viz.preview_update(*opened, SOURCE, [1, 3], prompt=PROMPT).after.logits
    ids = torch.tensor([opened[0].tokenizer(PROMPT)["input_ids"]])
    if kind == "merged":
        hf = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
        np.testing.assert_allclose(hf(ids).logits[0, -1].detach(), expected, atol=1e-4)
    elif kind == "lora":
        assert len(load_file(tmp_path / "out" / "adapter_model.safetensors")) == 12
    else:
        (update,) = npt_viz.updates_from_recipe(tmp_path / "out", opened[0])
        assert update.norm() == pytest.approx(found["update_norm"])


def top_of(rows) -> dict:
    """(glyph, id) -> probability of a next-token table in JSON."""
    return {(glyph, token_id): probability for glyph, token_id, probability in rows}


def approx_top(rows):
    return pytest.approx(top_of(rows), rel=1e-5)


def test_edits_follow_earlier_edits(call, tmp_path):
    call("edit", *EDIT, "--alpha", "2", "--export", tmp_path / "first", "--kind", "recipe", "--json")
    alone = strict(call("edit", *EDIT, "--json")[1])
    after = strict(call("edit", *EDIT, "--after", tmp_path / "first", "--json")[1])
    doubled = strict(call("edit", *EDIT, "--alpha", "2", "--json")[1])
    # Two lanes of one batch against one lane: the same numbers up to the rounding of a float32 product.
    assert top_of(after["base_top"]) == approx_top(doubled["updated_top"])
    assert top_of(after["base_top"]) != approx_top(alone["base_top"])


def test_edit_replays_a_published_history(call, tmp_path):
    path = tmp_path / "injection_history.json"
    path.write_text(
        json.dumps({"injected_facts": {"1": [{"fact": SOURCE, "alpha": 1.0}], "2": [{"fact": "x"}]}})
    )
    status, out, err = call("edit", *EDIT, "--after", path, "--json")
    assert status == 0 and "entry 2 cannot be replayed: layer 2 is no NPT layer" in err
    without = strict(call("edit", *EDIT, "--json")[1])["base_top"]
    assert top_of(strict(out)["base_top"]) != approx_top(without)


@pytest.mark.usefixtures("short_texts")
def test_edit_for_people_has_the_tables(call):
    status, out, _ = call("edit", *EDIT, "--new", "q", "--continue", "3")
    assert status == 0
    for words in (
        "rank before",
        "written into the weights",
        "Usable means that q is more probable",
        "before, greedy:",
        "recovers",
    ):
        assert words in out


@pytest.mark.usefixtures("short_texts")
def test_a_sweep_is_in_the_json(call):
    sweep = strict(call("edit", *EDIT, "--new", "q", "--json")[1])["sweep"]
    assert len(sweep["alphas"]) == len(sweep["margin"]) == 41
    assert sweep["alphas"][20] == 0 and sweep["unrelated_kl"][20] == pytest.approx(0, abs=1e-9)


def test_rules_and_choices_reach_the_library(call, opened):
    rule = npt_viz.UpdateRule(
        name="minimum_norm", components=(1,), combine="sum", protect=("xyz",), mode="propagated"
    )
    expected = npt_viz.update_from(*opened, SOURCE, layer=[1, 3], token=[2, 5], rule=rule)
    options = ("--rule", "minimum_norm", "--components", "1", "--combine", "sum", "--protect", "xyz")
    found = strict(call("edit", *EDIT, "--token", "2,5", "--mode", "propagated", *options, "--json")[1])
    assert found["update_norm"] == pytest.approx(expected.norm(), rel=1e-4)
    everything = strict(call("edit", *EDIT, "--token", "all", "--json")[1])
    assert everything["update_norm"] == pytest.approx(
        npt_viz.update_from(*opened, SOURCE, layer=[1, 3], token="all").norm(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layer", "2"), "layer 2 is no NPT layer"),
        (("--token", "99"), "token 99 does not exist"),
        (("--alpha", "nan"), "alpha is nan"),
        (("--after", "/nowhere.json"), "/nowhere.json: no such file or folder"),
        (("--components", "7"), "component 7 does not exist"),
        (("--new", ""), "the continuation is empty"),
    ],
)
def test_bad_input_to_edit_is_status_1(call, options, words):
    status, out, err = call("edit", *EDIT, *options)
    assert (status, out) == (1, "")
    assert words in err and err.count("\n") == 1


def test_an_export_folder_that_exists_is_status_1(call, tmp_path):
    status, _, err = call("edit", *EDIT, "--export", tmp_path)
    assert status == 1 and "exists already" in err


def test_transplant_prints_the_numbers_of_the_library(call, opened):
    options = (
        "--layers",
        "1,3",
        "--donor-token",
        "4",
        "--token",
        "2",
        "--operation",
        "blend",
        "--strength",
        "0.4",
    )
    status, out, _ = call("transplant", "--donor", SOURCE, "--prompt", PROMPT, *options, "--json")
    found = strict(out)
    expected = npt_viz.transplant(
        *opened, SOURCE, PROMPT, layers=[1, 3], donor_token=4, token=2, operation="blend", strength=0.4
    )
    assert status == 0
    np.testing.assert_allclose(found["kl_per_token"], expected.transplanted.kl, atol=1e-6)
    assert [row[1] for row in found["transplanted_top"]] == [
        row[1] for row in expected.transplanted.next_tokens
    ]
    assert [share["layer"] for share in found["shares"]] == [1, 3]
    status, out, _ = call("transplant", "--donor", SOURCE, "--prompt", PROMPT, *options)
    assert status == 0 and out.startswith("blend (0.4) ΔW of")


@pytest.mark.usefixtures("short_texts")
def test_score_judges_every_fact_rule_and_strength(call, opened, tmp_path):
    path = tmp_path / "cases.jsonl"
    facts = [
        {
            "context": "A is b.",
            "prompt": "A is",
            "new": " b",
            "paraphrases": ["What is A?"],
            "unrelated": ["xy"],
        },
        {
            "context": "C is d.",
            "prompt": "C is",
            "new": " d",
            "unrelated": ["z"],
            "consequences": [["D", " c"]],
        },
    ]
    path.write_text("\n".join(map(json.dumps, facts)))
    options = ("--layer", "3", "--cases", path, "--rules", "npt,whitened", "--alphas", "1,-2")
    status, out, _ = call("score", *options, "--json")
    found = strict(out)
    assert status == 0
    assert [(row["rule"], row["alpha"], row["facts"]) for row in found["summary"]] == [
        ("npt", 1, 2),
        ("npt", -2, 2),
        ("whitened", 1, 2),
        ("whitened", -2, 2),
    ]
    assert len(found["trials"]) == 8
    model = opened[0]
    for told, prompt in ((False, "C is"), (True, "C is d. C is")):
        ids = torch.tensor([encode(model, prompt).ids])
        log_p = model.hf(ids).logits[0, -1].double().log_softmax(-1)
        old = model.hf(torch.tensor([encode(model, "C is").ids])).logits[0, -1].argmax()
        (row,) = [r for r in found["references"] if (r["case"], r["told"]) == ("C is", told)]
        space, d = model.tokenizer(" d")["input_ids"]
        after = model.hf(torch.cat([ids, torch.tensor([[space]])], 1)).logits[0, -1].double().log_softmax(-1)
        assert row["margin"] == pytest.approx(float(log_p[space] + after[d] - log_p[old]), abs=1e-4)
        assert row["hit"] == (log_p.argmax() == space and after.argmax() == d)
    first = next(t for t in found["trials"] if (t["prompt"], t["rule"], t["alpha"]) == ("C is", "npt", -2.0))
    preview = npt_viz.preview_update(*opened, "C is d. C is", 3, alpha=-2, prompt="C is")
    assert first["recovered"] == pytest.approx(preview.recovery.recovered, rel=1e-3)
    assert first["update_norm"] == pytest.approx(preview.update.norm(), rel=1e-5)
    margins = [
        row["margin"]
        for t in found["trials"]
        if (t["rule"], t["alpha"]) == ("npt", -2.0)
        for row in t["prompts"]
        if row["part"] == "reliability"
    ]
    row = found["summary"][1]
    assert row["margin"] == pytest.approx(np.mean(margins)) and row["margin sd"] == pytest.approx(
        np.std(margins, ddof=1)
    )
    assert row["generalisation"] in (0, 1) and row["portability"] in (0, 1)
    status, out, err = call("score", "--layer", "3", "--cases", path, "--rules", "npt", "--alphas", "1")
    assert status == 0 and "recovered" in out and "2 facts" in err
    assert "the base: " in out and "the base with the context in front: " in out


@pytest.mark.usefixtures("short_texts")
def test_the_built_in_facts_are_the_default(call, monkeypatch):
    monkeypatch.setattr("npt_viz.editing.cases.BUILT_IN", BUILT_IN[:1])
    found = strict(call("score", "--layer", "3", "--rules", "npt", "--alphas", "1", "--json")[1])
    assert [t["prompt"] for t in found["trials"]] == ["The telephone was invented by"]


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        (edit, "kind", EXPORT_KINDS),
        (edit, "rule", RULES),
        (edit, "mode", MODES),
        (edit, "positions", POSITIONS),
        (transplant, "operation", OPERATIONS),
        (transplant, "mode", MODES),
    ],
)
def test_the_options_offer_what_the_library_takes(command, option, choices):
    """They are written out a second time, because --help must not wait for torch."""
    offered = get_args(get_args(command.run.__annotations__[option])[0])
    assert set(offered) == set(choices)

"""Sweeps, scorecards and leakage, against weights that are really edited one value at a time."""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import specimen

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.cases import BUILT_IN, UNRELATED, Case, cases_from_file, cases_from_text, in_context
from npt_viz.editing.judging import lanes
from npt_viz.editing.judging.leakage import effects_elsewhere, leakage
from npt_viz.editing.judging.scorecard import scorecard
from npt_viz.editing.judging.sweep import alpha_sweep, default_alphas
from npt_viz.editing.ledger import Ledger
from npt_viz.editing.making.from_source import update_from
from npt_viz.editing.making.readings import reference_inputs, windows
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.updates import Factors, Place
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import encode
from npt_viz.results.editing import AlphaSweep, Score, harmonic_mean
from npt_viz.results.estimate import wilson

SOURCE = "In the story the cat is blue. The cat is"
PROMPT = "The cat is"
TEXTS = ("A quiet morning by the river.", "Two plus three is five; six is more.")
ALPHAS = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])


@pytest.fixture(scope="module")
def npt(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N5", layer, seed=layer) for layer in (1, 3)}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


def edited(model, updates):
    """Hugging Face's model with the weights really edited."""
    copy = deepcopy(model.hf)
    for update in updates:
        for place, parts in update.factors.items():
            delta = update.alpha * torch.from_numpy(parts.v_b).T @ torch.from_numpy(parts.v_a)
            copy.get_parameter(place.parameter).add_(delta)
    return copy


def log_p(hf, model, text):
    """(token, vocab), float64"""
    return hf(torch.tensor([encode(model, text).ids])).logits[0].double().log_softmax(-1).numpy()


def kl(reference, other):
    return (np.exp(reference) * (reference - other)).sum(-1)


def nll(hf, model, text):
    ids = encode(model, text).ids
    return -log_p(hf, model, text)[range(len(ids) - 1), ids[1:]]


@pytest.mark.parametrize("batch_bytes", [2**28, 1])
def test_a_sweep_is_every_strength_written_into_the_weights(tiny_llama, npt, monkeypatch, batch_bytes):
    monkeypatch.setattr(lanes, "BATCH_BYTES", batch_bytes)
    update = update_from(tiny_llama, npt, SOURCE, layer=[1, 3])
    ledger = Ledger(tiny_llama)
    ledger.apply(update_from(tiny_llama, npt, "earlier", layer=3, alpha=-0.6))
    unrelated = ("xyz", "one two three")
    sweep = alpha_sweep(
        tiny_llama, update, PROMPT, "q", alphas=ALPHAS, unrelated=unrelated, neutral=TEXTS, ledger=ledger
    )
    before = edited(tiny_llama, ledger.updates)
    old = int(log_p(before, tiny_llama, PROMPT)[-1].argmax())
    new = tiny_llama.tokenizer("q")["input_ids"][0]
    assert (sweep.new, sweep.old[1]) == (("q", new), old)
    for i, alpha in enumerate(ALPHAS):
        after = edited(tiny_llama, [*ledger.updates, update.at(alpha)])
        found = log_p(after, tiny_llama, PROMPT)[-1]
        assert sweep.new_log_probability[i] == pytest.approx(found[new], abs=1e-4)
        assert sweep.margin[i] == pytest.approx(found[new] - found[old], abs=1e-4)
        moved = [kl(log_p(before, tiny_llama, t)[-1], log_p(after, tiny_llama, t)[-1]) for t in unrelated]
        assert sweep.unrelated_kl[i] == pytest.approx(np.mean(moved), abs=1e-5)
        surprise = np.concatenate([nll(after, tiny_llama, text) for text in TEXTS])
        assert sweep.perplexity[i] == pytest.approx(np.exp(surprise.mean()), rel=1e-4)
    assert sweep.n_neutral_tokens == len(surprise)
    assert sweep.perplexity[2] == pytest.approx(sweep.before_perplexity, rel=1e-6)
    assert sweep.unrelated_kl[2] == pytest.approx(0, abs=1e-7)


def test_a_sweep_reports_the_share_of_all_tokens_that_is_done(tiny_llama, npt):
    reports = []
    sweep = alpha_sweep(
        tiny_llama,
        update_from(tiny_llama, npt, SOURCE, layer=3),
        PROMPT,
        "q",
        "r",
        alphas=[1.0],
        unrelated=("xyz", "ab"),
        neutral=("12345",),
        progress=lambda stage, share: reports.append((stage, share)),
    )
    total = 10 + 3 + 2 + 5
    assert reports == [
        ("the prompt", 10 / total),
        ("unrelated prompts", 13 / total),
        ("unrelated prompts", 15 / total),
        ("neutral text", 1.0),
    ]
    assert (sweep.n_unrelated, sweep.n_neutral_tokens) == (2, 4)
    q, r = (tiny_llama.tokenizer(letter)["input_ids"][0] for letter in "qr")
    assert (sweep.new, sweep.old) == (("q", q), ("r", r))


@pytest.mark.parametrize("unrelated", [("xyz",), ()])
def test_a_sweep_may_have_one_unrelated_prompt_or_none(tiny_llama, npt, unrelated):
    update = update_from(tiny_llama, npt, SOURCE, layer=3)
    sweep = alpha_sweep(
        tiny_llama, update, PROMPT, "q", alphas=ALPHAS, unrelated=unrelated, neutral=TEXTS[:1]
    )
    expected = [
        np.mean([kl(log_p(tiny_llama.hf, tiny_llama, text)[-1], log_p(after, tiny_llama, text)[-1])])
        for text in unrelated
        for after in (edited(tiny_llama, [update.at(alpha)]) for alpha in ALPHAS)
    ]
    assert sweep.n_unrelated == len(unrelated)
    np.testing.assert_allclose(sweep.unrelated_kl, expected or [np.nan] * len(ALPHAS), atol=1e-5)


def test_a_sweep_tries_the_default_strengths_or_whole_numbers(tiny_llama, npt):
    update = update_from(tiny_llama, npt, SOURCE, layer=3)
    few = {"unrelated": (), "neutral": ("ab",)}
    np.testing.assert_array_equal(alpha_sweep(tiny_llama, update, "The", "q", **few).alphas, default_alphas())
    whole = alpha_sweep(tiny_llama, update, "The", "q", alphas=np.array([0, 2]), **few).alphas
    assert whole.dtype == np.float64 and whole.tolist() == [0.0, 2.0]


def test_default_strengths_are_symmetric_about_zero():
    alphas = default_alphas(5.0, 41)
    assert len(alphas) == 41 and alphas[20] == 0 and alphas[-1] == 5
    np.testing.assert_allclose(alphas, -alphas[::-1])
    assert (np.diff(alphas) > 0).all()
    np.testing.assert_array_equal(default_alphas(), default_alphas(10.0, 41))


def test_a_sweep_of_nothing_or_of_nonsense_is_refused(tiny_llama, npt):
    update = update_from(tiny_llama, npt, SOURCE, layer=1)
    with pytest.raises(NptVizError, match="no alpha to try"):
        alpha_sweep(tiny_llama, update, PROMPT, "q", alphas=[])
    with pytest.raises(NptVizError, match="alpha is nan"):
        alpha_sweep(tiny_llama, update, PROMPT, "q", alphas=[1.0, float("nan")])
    with pytest.raises(NptVizError, match="the continuation is empty"):
        alpha_sweep(tiny_llama, update, PROMPT, "", alphas=[1.0])


def swept(margin, kl, perplexity):
    n = len(margin)
    return AlphaSweep(
        alphas=np.arange(n, dtype=float),
        new=("a", 1),
        old=("b", 2),
        new_log_probability=np.zeros(n),
        margin=np.array(margin),
        unrelated_kl=np.array(kl),
        perplexity=np.array(perplexity),
        before_perplexity=10.0,
        n_unrelated=3,
        n_neutral_tokens=5,
    )


def test_the_window_is_the_longest_run_where_the_fact_holds_and_nothing_else_breaks():
    fine, ppl = [0.0] * 7, [10.0] * 7
    assert swept([-1, 1, -1, 1, 1, 1, -1], fine, ppl).window == (3.0, 5.0)
    assert swept([1] * 7, [0, 0, 0.2, 0, 0, 0, 0], ppl).window == (3.0, 6.0)
    assert swept([1] * 7, fine, [10, 10, 10.4, 10.6, 11, 10, 10]).window == (0.0, 2.0)
    assert swept([-1] * 7, fine, ppl).window is None


def test_a_scorecard_counts_what_the_edited_model_answers(tiny_llama, npt):
    def best(model, prompt):
        return int(log_p(model, tiny_llama, prompt)[-1].argmax())

    # What the edited model says by itself is a hit, and two letters are only one where both are.
    for alpha in np.arange(1.0, 9.0, 0.5):
        update = update_from(tiny_llama, npt, SOURCE, layer=[1, 3], alpha=float(alpha))
        hf = edited(tiny_llama, [update])
        said = tiny_llama.tokenizer.decode([best(hf, PROMPT)])
        if said.isascii() and said.strip() and best(hf, PROMPT) != best(tiny_llama.hf, PROMPT):
            break
    else:
        raise AssertionError("no strength makes the random model say a letter")
    case = Case(
        context="x",
        prompt=PROMPT,
        new=said,
        paraphrases=("A cat is", "Cats are"),
        unrelated=("xyz", "0123", "hm"),
        consequences=((PROMPT, "qz"), (PROMPT, said)),
    )
    found = scorecard(tiny_llama, [], [update], case, neutral=TEXTS)
    rows = {part: [row for row in found.prompts if row.part == part] for part in found.parts}
    assert [row.hit for row in rows["reliability"]] == [True]
    assert [row.hit for row in rows["generalisation"]] == [
        best(hf, p) == best(hf, PROMPT) for p in case.paraphrases
    ]
    assert [row.hit for row in rows["portability"]] == [False, True]
    assert [row.hit for row in rows["locality"]] == [
        best(hf, p) == best(tiny_llama.hf, p) for p in case.unrelated
    ]
    old = int(log_p(tiny_llama.hf, tiny_llama, PROMPT)[-1].argmax())
    new = tiny_llama.tokenizer(said)["input_ids"][0]
    for row in rows["reliability"] + rows["generalisation"]:
        after = log_p(hf, tiny_llama, row.prompt)[-1]
        assert row.margin == pytest.approx(after[new] - after[old], abs=1e-4)
        assert row.preferred == (after[new] > after[old])
        assert row.kl == pytest.approx(kl(log_p(tiny_llama.hf, tiny_llama, row.prompt)[-1], after), abs=1e-5)
    two = log_p(hf, tiny_llama, PROMPT + "q")
    q, z = (tiny_llama.tokenizer(c)["input_ids"][0] for c in "qz")
    stale = log_p(hf, tiny_llama, PROMPT)[-1][old]
    assert rows["portability"][0].margin == pytest.approx(two[-2][q] + two[-1][z] - stale, abs=1e-4)
    for name, model in (("before", tiny_llama.hf), ("after", hf)):
        surprise = np.concatenate([nll(model, tiny_llama, text) for text in TEXTS])
        assert getattr(found, f"{name}_perplexity") == pytest.approx(np.exp(surprise.mean()), rel=1e-4)
    moved = np.concatenate([kl(log_p(tiny_llama.hf, tiny_llama, t), log_p(hf, tiny_llama, t)) for t in TEXTS])
    assert found.neutral_kl == pytest.approx(moved.mean(), abs=1e-5)
    values = [np.mean([row.hit for row in part]) for part in rows.values()]
    expected = 0 if min(values) == 0 else len(values) / sum(1 / v for v in values)
    assert found.harmonic() == pytest.approx(expected)


def test_parts_without_prompts_do_not_count(tiny_llama, npt):
    update = update_from(tiny_llama, npt, SOURCE, layer=1)
    case = Case(context="x", prompt=PROMPT, new="q", unrelated=("xyz",))
    found = scorecard(tiny_llama, [], [update], case, neutral=TEXTS)
    assert found.score("portability").n == 0 and math.isnan(found.score("portability").value)
    assert found.harmonic() == harmonic_mean(
        [found.score(part).value for part in ("reliability", "locality")]
    )


def test_the_interval_of_a_score_is_wilsons_and_of_no_prompt_there_is_none():
    assert Score(hits=3.0, n=7).interval == wilson(3, 7)
    assert all(map(math.isnan, Score(hits=0.0, n=0).interval))


def test_harmonic_mean_of_hand_numbers():
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_mean([1.0, 0.0]) == 0
    assert math.isnan(harmonic_mean([]))


def test_effects_elsewhere_are_those_of_the_dense_matrix():
    rng = np.random.default_rng(0)
    factors = Factors(rng.normal(size=(3, 7)), rng.normal(size=(3, 11)))
    source, elsewhere = torch.from_numpy(rng.normal(size=(1, 7))), torch.from_numpy(rng.normal(size=(5, 7)))
    along, size = effects_elsewhere(factors, source.float(), elsewhere.float())
    delta = factors.v_b.T.astype(np.float64) @ factors.v_a
    at_source = delta @ source[0].numpy()
    for i, x in enumerate(elsewhere.numpy()):
        assert along[i] == pytest.approx((delta @ x) @ at_source / (at_source @ at_source), rel=1e-5)
        assert size[i] == pytest.approx(np.linalg.norm(delta @ x) / np.linalg.norm(at_source), rel=1e-5)


def test_leakage_of_one_factor_is_its_key_on_other_tokens(tiny_llama):
    adapter = specimen(tiny_llama, "N1", 2, components=1)
    npt = Checkpoint.from_adapters({2: adapter}, tiny_llama, "specimen")
    rule = UpdateRule(reference=("Some other words to whiten with, 1 2 3.",))
    found = {each.rule: each for each in leakage(tiny_llama, npt, SOURCE, layer=2, rule=rule, texts=TEXTS)}
    assert list(found) == ["npt", "minimum_norm", "whitened"]
    place = Place(2, "gate")
    assert {each.parameter for each in found.values()} == {"model.layers.2.mlp.gate_proj.weight"}
    x = reference_inputs(tiny_llama, TEXTS, [place])
    source = reference_inputs(tiny_llama, (SOURCE,), [place], with_sinks=True).inputs[place][-1]
    for name, each in found.items():
        update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=replace(rule, name=name))
        v_a = torch.from_numpy(update.factors[place].v_a[0])
        np.testing.assert_allclose(
            each.leakage, (x.inputs[place] @ v_a) / (source @ v_a), rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(each.effect, np.abs(each.leakage), rtol=1e-3, atol=1e-5)
        assert each.update_norm == pytest.approx(update.norm(), rel=1e-5)
        strongest = each.leakage[np.argsort(-each.effect)[:8]]
        np.testing.assert_allclose([hit.leakage for hit in each.hit_most], strongest)
        worst = each.hit_most[0]
        row = int(each.effect.argmax())
        text, position = x.tokens[row]
        assert worst.leakage == pytest.approx(each.leakage[row])
        assert worst.glyph == encode(tiny_llama, TEXTS[text]).pieces[position].glyph
        assert (
            worst.before
            == "".join(p.glyph for p in encode(tiny_llama, TEXTS[text]).pieces)[
                max(0, position - 6) : position
            ]
        )


def test_long_texts_are_read_in_windows_that_fit_the_context(tiny_llama):
    text = "abc" * 70
    found = list(windows(tiny_llama, [text, "xy"]))
    assert [len(ids) for ids in found] == [97, 97, 16, 2]
    assert found[:3] == [encode(tiny_llama, part).ids for part in (text[:97], text[97:194], text[194:])]
    assert [len(ids) for ids in windows(tiny_llama, ["x" * 98, "x" * 99, "x"])] == [97, 97, 2, 1]
    assert [len(ids) for ids in windows(tiny_llama, ["x" * 23], length=10)] == [10, 10, 3]
    with pytest.raises(NptVizError, match="reference text is empty"):
        list(windows(tiny_llama, [""]))


def test_every_built_in_case_is_complete():
    assert len(BUILT_IN) == 10
    for case in BUILT_IN:
        assert case.source == f"{case.context} {case.prompt}"
        assert case.new.startswith(" ") and case.context.startswith(case.prompt + case.new)
        assert len(case.paraphrases) >= 2 and case.unrelated is UNRELATED


def test_a_context_is_joined_with_one_space_where_there_is_none():
    assert in_context("A.", "B") == "A. B"
    assert in_context("A.\n", "B") == "A.\nB"
    assert in_context("A.", " B") == "A. B"
    assert in_context("", "B") == "B"


FULL = {
    "context": "A is B, says C.",
    "prompt": "A is",
    "new": " B",
    "old": " D",
    "paraphrases": ["What is A?", "A?"],
    "unrelated": ["E is"],
    "consequences": [["B is", " A"]],
}


def test_cases_of_jsonl_and_csv_files_are_the_same(tmp_path):
    import json

    (tmp_path / "a.jsonl").write_text(json.dumps(FULL) + "\n\n" + json.dumps({**FULL, "prompt": "Z"}) + "\n")
    (tmp_path / "a.csv").write_text(
        "context,prompt,new,old,paraphrases,unrelated,consequences\n"
        '"A is B, says C.",A is, B,D,What is A?|A?,E is,B is=>A\n'
        '"A is B, says C.",Z,B, D,What is A? | A?,E is,B is => A\n'
    )
    expected = Case(
        context="A is B, says C.",
        prompt="A is",
        new=" B",
        old=" D",
        paraphrases=("What is A?", "A?"),
        unrelated=("E is",),
        consequences=(("B is", " A"),),
    )
    for name in ("a.jsonl", "a.csv"):
        assert cases_from_file(tmp_path / name) == [expected, replace(expected, prompt="Z")]


def test_columns_may_be_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("context,prompt,new\nA is B.,A is,B\n")
    assert cases_from_file(tmp_path / "a.csv") == [Case(context="A is B.", prompt="A is", new=" B")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "has no case in it"),
        ("a.jsonl", "{", "line 1: is no JSON"),
        ("a.jsonl", "\n[1]", "line 2: is no object"),
        ("a.jsonl", '{"context": "a", "prompt": "b"}', "line 1: new is missing"),
        ("a.jsonl", '{"context": "a", "prompt": " ", "new": "c"}', "line 1: prompt is ' '"),
        ("a.jsonl", '{"context": "a", "prompt": "b", "new": "c", "answer": "d"}', "'answer' is unknown"),
        (
            "a.jsonl",
            '{"context": "a", "prompt": "b", "new": "c", "unrelated": "d"}',
            "unrelated is 'd'; give a list",
        ),
        ("a.jsonl", '{"context": "a", "prompt": "b", "new": "c", "old": 3}', "old is 3; give a text"),
        ("a.jsonl", '{"context": "a", "prompt": "b", "new": "c", "paraphrases": [""]}', "paraphrases has ''"),
        (
            "a.jsonl",
            '{"context": "a", "prompt": "b", "new": "c", "consequences": [["d"]]}',
            "give .prompt, answer.",
        ),
        ("a.csv", "context,prompt,new\na,b\n", "line 2: does not have the columns"),
        ("a.csv", "context,prompt,new\na,b,c,d\n", "line 2: does not have the columns"),
        ("a.csv", "context,prompt,new,consequences\na,b,c,d\n", "give .prompt, answer. pairs"),
    ],
)
def test_a_case_file_with_a_fault_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(NptVizError, match=message) as caught:
        cases_from_file(tmp_path / name)
    assert name in str(caught.value)


def test_a_case_file_that_is_not_there_or_not_text_is_a_sentence(tmp_path):
    with pytest.raises(NptVizError, match="no such file or folder"):
        cases_from_file(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NptVizError, match="save it as UTF-8"):
        cases_from_file(tmp_path / "a.csv")


def test_the_example_in_the_documentation_loads():
    text = (Path(__file__).resolve().parents[3] / "docs" / "editing.md").read_text(encoding="utf-8")
    example = text.split("```json\n")[1].split("```")[0]
    (case,) = cases_from_text(example, "docs/editing.md", is_csv=False)
    assert case.source == "Bees make silk. Bees make" and case.consequences == (("Beekeepers sell", " silk"),)

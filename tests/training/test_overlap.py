"""Text called held-out against the record of a training, by comparing tokens one by one."""

import pytest
import torch
from conftest import specimen

from npt_viz.checkpoint import Checkpoint
from npt_viz.training.data import Corpus, corpus_of
from npt_viz.training.overlap import joined, openings, seen_in_training
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.state import resumed, save_state
from npt_viz.training.trainer import train

TEXTS = [f"Text {i} says {i * i} things about {i + 7} rivers and {i % 5} hills." for i in range(31)]
QUICK = {"steps": 2, "batch_tokens": 32, "evaluate_every": 2, "warmup": 1}
SPEC = AdapterSpec(layers=(2,), rank=5)


def window(seed: int, n: int = 40) -> torch.Tensor:
    return torch.randint(2, 257, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def recipe():
    return {"split": Corpus(train=[window(0), window(1), window(2, 11)], heldout=[window(3)]).record()}


@pytest.mark.parametrize(
    ("sequences", "seen"),
    [
        ([window(3)], 0),
        ([window(0)], 40),
        ([window(1)[:23], window(3)], 23),
        ([torch.cat([window(3, 19), window(0)])], 40),
        ([window(2, 11)], 11),
        ([window(2, 11)[:10]], 0),
        ([window(0)[1:]], 0),
        ([torch.cat([window(0)[:15], window(4)])], 0),
    ],
)
def test_the_tokens_of_a_window_that_was_trained_on_are_counted(recipe, sequences, seen):
    found = seen_in_training(recipe, sequences)
    assert (found.n_tokens, found.n_seen) == (sum(map(len, sequences)), seen)
    if seen:
        assert f"{seen} of {found.n_tokens} tokens were seen in training" in found.note
    else:
        assert found.note == ""


@pytest.mark.parametrize(
    "recipe", [None, {}, {"split": None}, {"split": {"digest": "1"}}, {"split": {"openings": None}}]
)
def test_a_recipe_that_records_no_text_leaves_it_unknown(recipe):
    found = seen_in_training(recipe, [window(0)])
    assert found.n_seen is None and "unknown" in found.note


def test_what_a_checkpoint_was_trained_on_follows_it_through_later_trainings(tiny_llama, tmp_path):
    first = train(tiny_llama, SPEC, TEXTS, seed=0, **QUICK)
    list(first)
    assert first.heldout_seen.n_seen == 0
    made = first.checkpoint()
    same = train(tiny_llama, made, TEXTS, seed=0, **QUICK)
    assert same.heldout_seen.n_seen == 0, "the split is the same"
    # Another seed splits otherwise: most of what is held out now was trained on.
    other = train(tiny_llama, made, TEXTS, seed=1, **QUICK)
    trained = {tuple(ids.tolist()) for ids in first.corpus.train}
    expected = sum(len(ids) for ids in other.corpus.heldout if tuple(ids.tolist()) in trained)
    assert 0 < other.heldout_seen.n_seen == expected
    step = next(other)
    assert [alarm.rule for alarm in step.alarms] == ["seen_in_training"] and str(expected) in step.alarms[
        0
    ].sentence
    assert not next(same).alarms
    again = resumed(tiny_llama, save_state(other, tmp_path / "state.pt"))
    assert again.heldout_seen == other.heldout_seen
    list(other)
    both = openings(other.described())
    assert both == openings(first.described()) | openings({"split": other.corpus.record()})
    third = corpus_of(tiny_llama, TEXTS, seed=0)
    assert seen_in_training(other.checkpoint().recipe, third.heldout).n_seen > 0, (
        "the second training read it"
    )
    assert other.checkpoint().of_layers([2]).recipe["split"] == other.described()["split"]


def test_a_checkpoint_without_a_record_stays_unknown_after_more_training(tiny_llama):
    start = Checkpoint.from_adapters({2: specimen(tiny_llama, "N4", 2)}, tiny_llama, "no record")
    training = train(tiny_llama, start, TEXTS, **QUICK)
    assert training.heldout_seen.n_seen is None
    assert training.described()["split"]["openings"] is None
    assert joined([frozenset({"a"}), None]) is None and joined([frozenset({"b"}), frozenset({"a"})]) == "a b"

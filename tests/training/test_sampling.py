"""Sampled text follows the model's own distribution and its seed."""

import pytest
import torch

from npt_viz.errors import NptVizError
from npt_viz.training.sampling import sampled_texts


def test_the_same_seed_gives_the_same_texts_and_another_seed_others(tiny_llama):
    texts = [sampled_texts(tiny_llama, 3, tokens=11, starts=["a"], seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_second_token_is_drawn_from_the_models_distribution(tiny_llama):
    n_texts = 4001
    texts = sampled_texts(tiny_llama, n_texts, tokens=2, starts=["<bos>"], batch=n_texts)
    drawn = [tiny_llama.tokenizer(text.removeprefix("<bos>"))["input_ids"] for text in texts]
    # A byte above 127 alone is no character and does not come back from text.
    counts = torch.zeros(258)
    for ids in drawn:
        counts[ids[0] if len(ids) == 1 else 0] += 1
    with torch.no_grad():
        p = tiny_llama.hf(input_ids=torch.tensor([[0]])).logits[0, -1].softmax(-1)
    ascii_ids = [i for i in range(2, 258) if len(tiny_llama.tokenizer.decode([i])) == 1 and counts[i] > 0]
    spread = (p * (1 - p) / n_texts).sqrt()
    deviation = ((counts / n_texts - p) / spread)[ascii_ids]
    assert len(ascii_ids) > 60
    assert deviation.abs().max() < 5
    assert deviation.std() == pytest.approx(1, abs=0.5)


def test_starts_are_taken_in_turn_batch_by_batch(tiny_llama):
    texts = sampled_texts(tiny_llama, 5, tokens=3, starts=["a", "b"], batch=2)
    assert [text[0] for text in texts] == ["a", "a", "b", "b", "a"]


def test_a_cached_continuation_is_that_of_whole_passes(tiny_llama):
    """Greedy as the temperature goes to zero: the cache must not change the choice."""
    (text,) = sampled_texts(tiny_llama, 1, tokens=9, starts=["a"], temperature=1e-6)
    ids = tiny_llama.tokenizer("a")["input_ids"]
    with torch.no_grad():
        for _ in range(8):
            ids.append(tiny_llama.hf(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    assert text == tiny_llama.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_bad_number_is_one_sentence(tiny_llama):
    with pytest.raises(NptVizError, match="must be positive, got 1, 1 and"):
        sampled_texts(tiny_llama, 1, tokens=1)

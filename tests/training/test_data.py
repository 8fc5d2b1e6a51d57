"""Text becomes token sequences: windows, a seeded split by sequence, and a sentence where there is too little."""

import pytest

from npt_viz.errors import NptVizError
from npt_viz.training.data import corpus_of

TEXTS = [f"text number {i} " * (1 + i % 3) for i in range(20)]


def test_every_token_is_on_one_side(tiny_llama):
    corpus = corpus_of(tiny_llama, TEXTS, window=16)
    n_tokens = sum(len(tiny_llama.tokenizer(text)["input_ids"]) for text in TEXTS)
    short = sum(
        n % 16 for n in (len(tiny_llama.tokenizer(text)["input_ids"]) for text in TEXTS) if n % 16 < 8
    )
    assert corpus.n_train + corpus.n_heldout == n_tokens - short
    assert corpus.starts[-1] == corpus.n_train and len(corpus.starts) == len(corpus.train) + 1
    assert 0.08 < corpus.n_heldout / n_tokens < 0.2


def test_the_split_depends_on_the_seed_alone(tiny_llama):
    first, same, other = (corpus_of(tiny_llama, TEXTS, seed=seed) for seed in (3, 3, 4))
    assert first.digest() == same.digest() != other.digest()


@pytest.mark.parametrize(
    "texts", [["short"], [], ["one text that is long enough for one sequence"], "a", ["", "  "]]
)
def test_too_little_text_is_a_sentence_with_its_numbers(tiny_llama, texts):
    with pytest.raises(
        NptVizError, match=r"tokens in [01] sequences of at least 8: too short to hold some back"
    ):
        corpus_of(tiny_llama, texts)


@pytest.mark.parametrize("tokens", [1, 30, 61, 100, 250, 700])
def test_tokens_bound_both_sides_down_to_one_window_each(tiny_llama, tokens):
    long_texts = [f"text number {i} " * 30 for i in range(11)]
    window = 29
    corpus = corpus_of(tiny_llama, long_texts, window=window, tokens=tokens)
    assert 0 < corpus.n_heldout <= max(window, tokens // 2) and 0 < corpus.n_train <= max(window, tokens)
    assert corpus.n_heldout + corpus.n_train <= max(2 * window, tokens)
    if tokens >= 4 * window:
        assert corpus.n_heldout + corpus.n_train > tokens / 2, "what is asked for is used"

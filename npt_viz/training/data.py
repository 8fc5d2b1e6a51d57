"""The text of a training as token sequences, some of them held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Int, Tensor

WINDOW = 256
"""Tokens of one training sequence; longer texts are cut."""

MIN_TOKENS = 8
"""A shorter sequence says nothing about attention."""


@dataclass(frozen=True)
class Corpus:
    """Token sequences, split by sequence so that no text is on both sides."""

    train: list[Int[Tensor, "_"]]
    heldout: list[Int[Tensor, "_"]]

    @property
    def n_train(self) -> int:
        return sum(map(len, self.train))

    @property
    def n_heldout(self) -> int:
        return sum(map(len, self.heldout))

    @property
    def starts(self) -> tuple[int, ...]:
        """Of the training text: first token of every sequence, and the number of tokens."""
        return tuple(accumulate(map(len, self.train), initial=0))

    def digest(self) -> str:
        """The same for the same tokens, split the same way."""
        sha = hashlib.sha256()
        for part in (self.train, self.heldout):
            sha.update(str([ids.tolist() for ids in part]).encode())
        return sha.hexdigest()[:16]


def corpus_of(
    model: BaseModel,
    texts: Sequence[str],
    *,
    window: int = WINDOW,
    heldout: float = 0.12,
    seed: int = 0,
    most: int | None = None,
) -> Corpus:
    """Tokenise, cut into windows and split; the split depends on the seed alone.

    most: about how many tokens to use; a random choice of sequences, by the same seed. All of them by default.
    """
    window = min(window, model.context_length)
    if isinstance(texts, str):
        texts = [texts]
    sequences = [
        torch.tensor(ids[start : start + window])
        for text in texts
        for ids in [model.tokenizer(text)["input_ids"]]
        for start in range(0, len(ids), window)
    ]
    sequences = [ids for ids in sequences if len(ids) >= min(MIN_TOKENS, window)]
    if len(sequences) < 2:
        n_tokens = sum(map(len, sequences))
        raise NptVizError(
            f"the text has {n_tokens} tokens in {len(sequences)} sequences of at least {MIN_TOKENS}: too short to "
            f"hold some back for testing; give at least two texts, or one of more than {window} tokens"
        )
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [sequences[i] for i in order]
    if most is not None:
        used = sum(end <= most for end in accumulate(map(len, shuffled)))
        shuffled = shuffled[: max(2, used)]
    n_heldout = max(1, round(heldout * len(shuffled)))
    return Corpus(train=shuffled[n_heldout:], heldout=shuffled[:n_heldout])

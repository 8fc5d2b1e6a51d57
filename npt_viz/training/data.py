"""The text of a training as token sequences, some of them held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.shapes import Int, Tensor
from npt_viz.training.recipe import TOKENS, WINDOW

MIN_TOKENS = 8
"""A shorter sequence says nothing about attention."""

OPENING = 16
"""Tokens at the start of a training sequence by which it is recognised."""

MIN_TEXTS = 8
"""Of fewer texts, holding back whole ones would hold back too much or too little."""


@dataclass(frozen=True)
class Corpus:
    """Token sequences, some of them held out."""

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
        """Hash of the tokens and their split."""
        sha = hashlib.sha256()
        for part in (self.train, self.heldout):
            sha.update(str([ids.tolist() for ids in part]).encode())
        return sha.hexdigest()[:16]

    def record(self) -> dict[str, str]:
        """What a checkpoint's recipe keeps of the text: digest of the split, hashes of the training sequences' openings."""
        return {"digest": self.digest(), "openings": " ".join(sorted({opening(ids) for ids in self.train}))}


def opening(ids: Int[Tensor, "_"]) -> str:
    """Hash of the first OPENING tokens."""
    return hashlib.sha256(str(ids[:OPENING].tolist()).encode()).hexdigest()[:10]


def corpus_of(
    model: BaseModel,
    texts: Sequence[str],
    *,
    window: int = WINDOW,
    heldout: float = 0.12,
    seed: int = 0,
    tokens: int = TOKENS,
) -> Corpus:
    """Tokenise, cut into windows and split; the split depends on the seed alone.

    No text is on both sides, unless there are fewer than 8: then windows are split.

    tokens: how many to use at most, and no less than one window on each side; a random choice of texts, by the same
        seed. 0 uses all of them.

    Raises NptVizError for sizes that make no sense, and text that is too short to hold some back.
    """
    if not 0 <= seed < 2**63:
        raise NptVizError(f"seed must lie between 0 and 2^63 − 1, got {seed}")
    for name, size, least in (("tokens", tokens, 0), ("window", window, 2)):
        if size < least:
            raise NptVizError(f"{name} must be at least {least}, got {size}; 0 tokens takes all of the text")
    window = min(window, model.context_length)
    if isinstance(texts, str):
        texts = [texts]
    by_text = [_windows(text_ids(model, text), window) for text in texts]
    sequences = [ids for windows in by_text for ids in windows]
    if len(sequences) < 2:
        n_tokens = sum(map(len, sequences))
        raise NptVizError(
            f"the text has {n_tokens} tokens in {len(sequences)} sequences of at least {MIN_TOKENS}: too short to "
            f"hold some back for testing; give at least two texts, or one of more than {window} tokens"
        )
    groups = [windows for windows in by_text if windows]
    if len(groups) < MIN_TEXTS:
        groups = [[ids] for ids in sequences]
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [groups[i] for i in order]
    if tokens:
        used = sum(end <= tokens for end in accumulate(sum(map(len, group)) for group in shuffled))
        # Two texts at least, and of such a text no more than its share: one window at least.
        shuffled = shuffled[:used] if used >= 2 else [_cut(group, tokens // 2) for group in shuffled[:2]]
    n_heldout = max(1, round(heldout * len(shuffled)))
    return Corpus(
        train=[ids for group in shuffled[n_heldout:] for ids in group],
        heldout=[ids for group in shuffled[:n_heldout] for ids in group],
    )


def _cut(windows: list[Int[Tensor, "_"]], tokens: int) -> list[Int[Tensor, "_"]]:
    """The first windows that have so many tokens together, or the first alone."""
    return windows[: max(1, sum(end <= tokens for end in accumulate(map(len, windows))))]


def _windows(ids: list[int], window: int) -> list[Int[Tensor, "_"]]:
    cut = [torch.tensor(ids[start : start + window]) for start in range(0, len(ids), window)]
    return [piece for piece in cut if len(piece) >= min(MIN_TOKENS, window)]

"""Whether text that is called held-out was training text of a checkpoint, by the record in the checkpoint's recipe.

The one home of this rule. A recipe records the split it was trained on (Corpus.record): its digest, and a hash of how
every training sequence begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from npt_viz.results.training import Seen
from npt_viz.training.data import OPENING, WINDOW, opening


def seen_in_training(recipe: Mapping[str, Any] | None, sequences: Sequence[torch.Tensor]) -> Seen:
    """How many tokens of these sequences lie in a window that the recipe's training read.

    A window is recognised by its first 16 tokens, wherever they stand; text that begins in the middle of a training
    window is not. A recipe without a record leaves it unknown.
    """
    n_tokens = sum(len(ids) for ids in sequences)
    known = openings(recipe)
    if known is None:
        return Seen(n_tokens=n_tokens, n_seen=None)
    return Seen(n_tokens=n_tokens, n_seen=sum(_seen(ids, known) for ids in sequences))


def openings(recipe: Mapping[str, Any] | None) -> frozenset[str] | None:
    """Hashes of how the training sequences of a recipe begin; None where it does not say."""
    split = (recipe or {}).get("split")
    text = split.get("openings") if isinstance(split, Mapping) else None
    return frozenset(text.split()) if isinstance(text, str) else None


def joined(known: Iterable[frozenset[str] | None]) -> str | None:
    """The record of several trainings, one after the other; None where one of them has none."""
    every = list(known)
    if any(each is None for each in every):
        return None
    return " ".join(sorted(frozenset().union(*(each for each in every if each is not None))))


def _seen(ids: torch.Tensor, known: frozenset[str]) -> int:
    """Tokens of one sequence that lie in a recognised window."""
    seen = torch.zeros(len(ids), dtype=torch.bool)
    for start in range(max(1, len(ids) - OPENING + 1)):
        if opening(ids[start:]) in known:
            seen[start : start + WINDOW] = True
    return int(seen.sum())

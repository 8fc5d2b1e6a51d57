"""Windows and parts: a corpus as runs of token ids, cut the same way whoever measures them.

A text becomes windows of at most `window` tokens, each of which begins anew at position 0. A part is a run of windows: it
ends with the block of text with which it reaches PART_TOKENS, or before a block that alone is longer than that.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.scanning.corpus import Reader

PART_TOKENS = 4096
"""Tokens after which a part ends: about what is lost where a scan is killed."""

LEAST = 2
"""Tokens of a window; one token has neither a context nor a next one."""


class Window(NamedTuple):
    """A run of tokens that is evaluated by itself."""

    number: int
    """In the corpus."""
    cluster: int
    """Block of text that it is from: tokens of one are not independent of each other."""
    source: str
    """File and line."""
    start: int
    """First token, in its block."""
    ids: np.ndarray
    """(token,) int64"""


@dataclass(frozen=True)
class Part:
    """Some windows, one after the other."""

    number: int
    windows: tuple[Window, ...]
    read: float
    """Share of the corpus that has been read when it ends."""
    n_texts: int
    """Texts that begin in it."""
    n_short: int = 0
    """Windows of fewer than LEAST tokens that were left out."""

    @property
    def n_tokens(self) -> int:
        return sum(len(window.ids) for window in self.windows)

    @cached_property
    def digest(self) -> str:
        """Hash of the tokens and of how they are cut."""
        sha = hashlib.sha256()
        for window in self.windows:
            sha.update(np.array([window.number, window.cluster, len(window.ids)]).tobytes())
            sha.update(np.ascontiguousarray(window.ids, np.int64).tobytes())
        return sha.hexdigest()[:16]


def parts(
    model: BaseModel,
    reader: Reader,
    *,
    window: int,
    max_tokens: int | None = None,
    part_tokens: int = PART_TOKENS,
) -> Iterator[Part]:
    """The corpus in parts, read as they are asked for.

    window: tokens, at most. max_tokens: end after that many, in the middle of a text where they end there.
    """
    waiting: list[Window] = []
    n_parts = n_windows = n_clusters = n_tokens = n_texts = n_short = 0
    size, read = 0, 0.0
    for block in reader.blocks():
        left = None if max_tokens is None else max_tokens - n_tokens - size
        if left is not None and left < LEAST:
            break
        pieces = list(_pieces(text_ids(model, block.text, special=block.block == 0)[:left], window))
        cut = [(start, ids) for start, ids in pieces if len(ids) >= LEAST]
        if cut and size >= part_tokens:
            # Not before the next text with a window: one without any counts in the part before it.
            yield Part(n_parts, tuple(waiting), read, n_texts, n_short)
            n_parts, n_tokens = n_parts + 1, n_tokens + size
            waiting, size, n_texts, n_short = [], 0, 0, 0
        n_texts += block.block == 0
        n_short += len(pieces) - len(cut)
        for start, ids in cut:
            waiting.append(Window(n_windows, n_clusters, block.source, start, ids))
            n_windows, size = n_windows + 1, size + len(ids)
        n_clusters, read = n_clusters + bool(cut), block.read
    if waiting:
        yield Part(n_parts, tuple(waiting), 1.0, n_texts, n_short)


def _pieces(ids: list[int], window: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first token, ids) of each window."""
    for start in range(0, len(ids), window):
        yield start, np.array(ids[start : start + window], np.int64)

"""Text for training and evaluation, sampled from the base model itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.progress import CountProgress, Progress, no_progress

SAMPLE_TOKENS = 256
"""Of a text that is written for a training."""


def texts_of_base(
    model: BaseModel, n_texts: int, *, seed: int = 0, progress: Progress = no_progress
) -> list[str]:
    """Texts of SAMPLE_TOKENS that the base model writes first, for a training on them."""

    if n_texts < 1:
        raise NptVizError(f"the number of texts to sample must be at least 1, got {n_texts}")

    def done(n: int, of: int) -> None:
        progress("sampling texts from the base model", n / of)

    done(0, n_texts)
    return sampled_texts(model, n_texts, tokens=SAMPLE_TOKENS, batch=8, seed=seed, progress=done)


@torch.no_grad()
def sampled_texts(
    model: BaseModel,
    n_texts: int,
    *,
    tokens: int = 256,
    starts: Sequence[str] = ("<|endoftext|>",),
    temperature: float = 1.0,
    batch: int = 32,
    seed: int = 0,
    progress: CountProgress | None = None,
) -> list[str]:
    """Continuations of `starts`, taken in turn, of exactly `tokens` tokens with the start in front.

    Sampled at one temperature without top-k or top-p, so that the text is the base model's own distribution.
    progress: called with (texts done, n_texts).
    """
    if n_texts < 1 or tokens < 2 or temperature <= 0:
        raise NptVizError(
            f"n_texts, tokens and temperature must be positive, got {n_texts}, {tokens} and {temperature}"
        )
    generator = torch.Generator().manual_seed(seed)

    def drawn(logits: Tensor) -> Tensor:
        """Plain ancestral sampling."""
        return torch.multinomial((logits / temperature).softmax(-1).cpu(), 1, generator=generator)[:, 0]

    texts: list[str] = []
    while len(texts) < n_texts:
        n_rows = min(batch, n_texts - len(texts))
        start = starts[(len(texts) // batch) % len(starts)]
        ids = torch.tensor([text_ids(model, start)] * n_rows)
        # A sequence goes on past its end-of-text, which is part of the distribution.
        new = model.decode(ids, max(0, tokens - ids.shape[1]), drawn)
        rows = torch.cat([ids, new], dim=1)
        texts += [model.tokenizer.decode(row, skip_special_tokens=False) for row in rows.tolist()]
        if progress:
            progress(len(texts), n_texts)
    return texts

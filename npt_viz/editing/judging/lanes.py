"""Predictions of many lanes on one prompt or text, in batches that fit into memory."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import Lane, forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor

BATCH_BYTES = 2**28
"""Activations of one MLP, in float32, that a batch of lanes may take."""


def lane_batches(model: BaseModel, lanes: Sequence[Lane], n_tokens: int) -> Iterator[Sequence[Lane]]:
    """Groups of lanes whose activations fit into memory."""
    bytes_a_lane = 4 * 3 * n_tokens * model.d_ffn
    size = max(1, BATCH_BYTES // bytes_a_lane)
    for start in range(0, len(lanes), size):
        yield lanes[start : start + size]


@torch.no_grad()
def last_log_p(
    model: BaseModel, lanes: Sequence[Lane], ids: Sequence[int], *, may_overflow: bool = False
) -> Float[Tensor, "lane vocab"]:
    """Log-probabilities of the next token after a prompt in every lane, float32 on the CPU.

    may_overflow: NaN where a changed lane overflows, instead of NotFiniteError.
    """
    token_ids = torch.tensor([list(ids)])
    log_p = []
    with model.lock:
        for batch in lane_batches(model, lanes, len(ids)):
            final = forward_pass(model, token_ids, batch, may_overflow=may_overflow).final[:, -1]
            log_p.append(model.unembedding(final).float().log_softmax(-1).cpu())
    return torch.cat(log_p)


class TextDrift(NamedTuple):
    """NLL and KL of lanes over some texts; every array is (lane,)."""

    nll: np.ndarray
    """Mean −log p of the tokens that follow, nats"""
    kl: np.ndarray
    """Mean KL(lane 0 ‖ lane) over all tokens, nats"""
    n_tokens: int
    """Tokens whose prediction is counted in `nll`"""

    @property
    def perplexity(self) -> np.ndarray:
        """exp of the mean NLL."""
        return np.exp(self.nll)


@torch.no_grad()
def text_drift(
    model: BaseModel,
    lanes: Sequence[Lane],
    texts: Sequence[Sequence[int]],
    *,
    with_kl: bool = True,
    may_overflow: bool = False,
) -> TextDrift:
    """NLL and KL of every lane over texts of token ids; lane 0 is the reference.

    with_kl: False saves time. may_overflow: NaN where a changed lane overflows, instead of NotFiniteError.
    """
    nll, kl, n_followed, n_all = np.zeros(len(lanes)), np.zeros(len(lanes)), 0, 0
    for ids in texts:
        token_ids = torch.tensor([list(ids)])
        with model.lock:
            finals = [
                forward_pass(model, token_ids, batch, may_overflow=may_overflow).final
                for batch in lane_batches(model, lanes, len(ids))
            ]
            predicted = predictions(
                model, torch.cat(finals), token_ids[0], top_k=1, with_kl=with_kl, may_overflow=may_overflow
            )
        # In float64; the last token has no next one.
        nll += predicted.nll[:, :-1].sum(1, dtype=float)
        kl += predicted.kl.sum(1, dtype=float)
        n_followed += len(ids) - 1
        n_all += len(ids)
    return TextDrift(nll / n_followed, kl / n_all, n_followed)

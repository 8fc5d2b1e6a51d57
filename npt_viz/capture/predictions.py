"""Next-token predictions of several lanes, in chunks of tokens: the logits of a whole prompt are never in memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

import npt_viz.next_token as next_token
from npt_viz.capture.finite import refuse_logits
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Int, Tensor

CHUNK_ELEMENTS = 2**25
"""Logits in memory at a time: 128 MB in float32."""


class Predictions(NamedTuple):
    """KL, NLL and top-k of several lanes; every array is (lane, token, …), lane 0 is the reference of the KL."""

    kl: np.ndarray
    """KL(lane 0 ‖ lane), nats"""
    nll: np.ndarray
    """−log p of the token that follows, nats; NaN at the last token"""
    top_ids: np.ndarray
    """(lane, token, k)"""
    top_probabilities: np.ndarray
    """(lane, token, k)"""
    agrees: np.ndarray
    """whether the most probable token is lane 0's"""


@torch.no_grad()
def predictions(
    model: BaseModel,
    final: Float[Tensor, "lane token model"],
    token_ids: Int[Tensor, "token"],
    *,
    top_k: int = 10,
    with_kl: bool = True,
    each_chunk: Callable[[], None] = lambda: None,
    may_overflow: bool = False,
) -> Predictions:
    """KL, NLL and top-k of every lane and token, unembedded in chunks, in float32.

    final: after the final norm, as forward_pass returns it. with_kl: False saves its time and leaves NaN. each_chunk: called after every
    chunk (`chunk_length`).
    """
    n_lanes, n_tokens, _ = final.shape
    following = torch.cat([token_ids[1:], token_ids[:1]])
    step = chunk_length(model, n_lanes)
    chunks = []
    for start in range(0, n_tokens, step):
        span = slice(start, start + step)
        log_p = model.unembedding(final[:, span]).float().log_softmax(-1)
        kl = torch.full(log_p.shape[:2], 0.0 if with_kl else torch.nan, device=log_p.device)
        # Lane by lane: it needs room for several arrays of the size it is given.
        for lane in range(1, n_lanes if with_kl else 1):
            kl[lane] = next_token.kl(log_p[0], log_p[lane])
        nll = next_token.nll(log_p, following[span].to(log_p.device).expand(n_lanes, -1))
        chunks.append([t.cpu().numpy() for t in (kl, nll, *next_token.top_k(log_p, top_k))])
        each_chunk()
    kl, nll, ids, probabilities = (np.concatenate(parts, axis=1) for parts in zip(*chunks, strict=True))
    refuse_logits(model, torch.from_numpy(probabilities[: 1 if may_overflow else None]))
    nll[:, -1] = np.nan
    return Predictions(
        kl=kl,
        nll=nll,
        top_ids=ids,
        top_probabilities=probabilities,
        agrees=ids[..., 0] == ids[:1, :, 0],
    )


def chunk_length(model: BaseModel, n_lanes: int) -> int:
    """Number of tokens that are unembedded at a time."""
    return max(1, CHUNK_ELEMENTS // (n_lanes * int(model.config.vocab_size)))

"""Many versions of the model on one prompt, in batches that fit: what they predict at its end and along a text."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from npt_viz.capture.predictions import CHUNK_ELEMENTS
from npt_viz.capture.running import Lane, forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor

BATCH_BYTES = 2**28
"""Activations of one MLP, in float32, that a batch of lanes may take."""


def lane_batches(model: BaseModel, lanes: Sequence[Lane], n_tokens: int) -> Iterator[Sequence[Lane]]:
    """The lanes in groups whose activations fit into memory."""
    bytes_a_lane = 4 * 3 * n_tokens * model.d_ffn
    size = max(1, BATCH_BYTES // bytes_a_lane)
    for start in range(0, len(lanes), size):
        yield lanes[start : start + size]


@torch.no_grad()
def last_log_p(model: BaseModel, lanes: Sequence[Lane], ids: Sequence[int]) -> Float[Tensor, "lane vocab"]:
    """Log-probabilities of the next token after a prompt in every lane, float32 on the CPU."""
    token_ids = torch.tensor([list(ids)])
    found = []
    with model.lock:
        for batch in lane_batches(model, lanes, len(ids)):
            final = forward_pass(model, token_ids, batch).final[:, -1]
            found.append(model.unembedding(final).float().log_softmax(-1).cpu())
    return torch.cat(found)


def kl_to_first(log_p: Float[Tensor, "lane vocab"]) -> Float[Tensor, "lane"]:
    """KL(lane 0 ‖ lane) of every lane, nats, float64."""
    log_p = log_p.double()
    # 0 * -inf would be NaN; a token of probability 0 adds nothing. A true NaN stays.
    p = log_p[0].exp()
    return torch.where(p == 0, 0.0, p * (log_p[0] - log_p)).sum(-1).clamp_min(0)


class TextDrift(NamedTuple):
    """What lanes make of some texts; every array is (lane,)."""

    nll: np.ndarray
    """Mean −log p of the tokens that follow, nats"""
    kl: np.ndarray
    """Mean KL(lane 0 ‖ lane) over all tokens, nats"""
    n_tokens: int
    """Tokens whose prediction is counted in `nll`"""

    @property
    def perplexity(self) -> np.ndarray:
        return np.exp(self.nll)


@torch.no_grad()
def text_drift(
    model: BaseModel, lanes: Sequence[Lane], texts: Sequence[Sequence[int]], *, with_kl: bool = True
) -> TextDrift:
    """Perplexity and drift of every lane over texts of token ids. Lane 0 is the reference."""
    nll, kl, n_followed, n_all = np.zeros(len(lanes)), np.zeros(len(lanes)), 0, 0
    for ids in texts:
        token_ids = torch.tensor([list(ids)])
        with model.lock:
            finals = [
                forward_pass(model, token_ids, batch).final for batch in lane_batches(model, lanes, len(ids))
            ]
            surprise, divergence = _sums(model, torch.cat(finals), token_ids[0], with_kl)
        nll += surprise
        kl += divergence
        n_followed += len(ids) - 1
        n_all += len(ids)
    return TextDrift(nll / n_followed, kl / n_all if with_kl else np.full(len(lanes), np.nan), n_followed)


def _sums(
    model: BaseModel, final: Float[Tensor, "lane token model"], ids: Tensor, with_kl: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(sum of −log p of what follows, sum of KL(lane 0 ‖ lane)) of every lane, a chunk of tokens at a time."""
    n_lanes, n_tokens, _ = final.shape
    nll, kl = torch.zeros(n_lanes, dtype=torch.float64), torch.zeros(n_lanes, dtype=torch.float64)
    step = max(1, CHUNK_ELEMENTS // (n_lanes * model.config.vocab_size))
    for start in range(0, n_tokens if with_kl else n_tokens - 1, step):
        span = slice(start, min(start + step, n_tokens))
        log_p = model.unembedding(final[:, span]).float().log_softmax(-1)
        following = ids[span.start + 1 : span.stop + 1].to(log_p.device)
        chosen = log_p[:, : len(following)].gather(-1, following.expand(n_lanes, -1)[..., None])
        nll -= chosen.sum((1, 2)).cpu().double()
        if with_kl:
            p = log_p[0].exp()
            for lane in range(1, n_lanes):
                # 0 * -inf would be NaN; a token of probability 0 adds nothing.
                kl[lane] += torch.where(p == 0, 0.0, p * (log_p[0] - log_p[lane])).sum().cpu().double()
    return nll.numpy(), kl.clamp_min(0).numpy()

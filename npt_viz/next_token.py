"""Numbers of next-token distributions: KL divergence, NLL and the most probable tokens (docs/mathematics.md §9)."""

from typing import NamedTuple

import torch

from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Int, Tensor

RATIO_LIMIT = 80.0
"""log q − log p up to which q/p does not overflow float32."""


def kl(
    log_p: Float[Tensor, "*#batch vocab"], log_q: Float[Tensor, "*#batch vocab"]
) -> Float[Tensor, "*#batch"]:
    """KL(p ‖ q) in nats, from log-probabilities; never below 0, and in float32 right to 1 % from 1e-7 nats on.

    With r = log q − log p it is Σ p (eʳ − 1 − r), which equals −Σ p r because p and q both sum to 1. All terms are ≥ 0
    and of second order in r, so the rounding of the log-normalisers enters squared; in −Σ p r it enters as it is,
    some 1e-6 nats. A token with p = 0 adds q; q = 0 beside p > 0 gives inf; NaN stays NaN.
    The gradient by log q is q − p.
    """
    ratio = log_q - log_p
    if ratio.numel() == 0:
        return ratio.sum(-1)
    lowest, highest = ratio.detach().aminmax()
    if -torch.inf < lowest and highest < RATIO_LIMIT:
        if ratio.requires_grad:
            return ((ratio.expm1() - ratio) * log_p.exp()).sum(-1)
        # The same in place: allocating arrays of this size takes as long as the arithmetic.
        return ratio.expm1().sub_(ratio).mul_(log_p.exp()).sum(-1)
    p, q = log_p.exp(), log_q.exp()
    near = p * (ratio.clamp_max(1.0).expm1() - ratio)
    terms = torch.where(ratio < 1.0, near, q - p * (1 + ratio))
    return torch.where(p == 0, q, terms).sum(-1)


def nll(log_p: Float[Tensor, "*batch vocab"], ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """−log p of one token in each distribution, nats."""
    return -log_p.gather(-1, ids[..., None])[..., 0]


def check_top_k(k: int) -> None:
    """Raise NptVizError unless at least one token is asked for."""
    if k < 1:
        raise NptVizError(f"top_k is {k}; ask for at least one token")


class TopK(NamedTuple):
    """The k most probable tokens, in descending order."""

    ids: Int[Tensor, "*batch k"]
    probabilities: Float[Tensor, "*batch k"]


def top_k(log_p: Float[Tensor, "*batch vocab"], k: int) -> TopK:
    """The k most probable tokens of each distribution; fewer where the vocabulary is smaller. NptVizError for k < 1."""
    check_top_k(k)
    values, ids = log_p.topk(min(k, log_p.shape[-1]), dim=-1)
    return TopK(ids, values.exp())

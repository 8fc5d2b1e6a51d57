"""Losses on the model's final logits; only the layers above the NPT layer have to run for them."""

from collections.abc import Callable

import torch

import npt_viz.next_token as next_token
from npt_viz.shapes import Float, Tensor

CHUNK_ELEMENTS = 2**25
"""Logits of one model in memory at a time: 128 MB in float32."""


def fidelity(
    final: Float[Tensor, "token model"],
    final_base: Float[Tensor, "token model"],
    gram: Float[Tensor, "model model"],
    vocab: int,
) -> Float[Tensor, ""]:
    """MSE of the final logits, NPT model against base.

    Logits are E x, so ‖E δ‖² = δ (EᵀE) δᵀ with δ the difference after the final norm: the same number without the
    (token, vocab) logits. Dominated by the mean logit, which no probability depends on.

    gram: EᵀE of the unembedding.
    """
    difference = final - final_base
    return ((difference @ gram) * difference).sum(-1).mean() / vocab


def kl(
    final: Float[Tensor, "token model"],
    final_base: Float[Tensor, "token model"],
    unembedding: Callable[[Tensor], Tensor],
    vocab: int,
) -> Float[Tensor, ""]:
    """Mean over tokens of KL(base ‖ NPT) of the next-token distributions, in nats.

    unembedding: states after the final norm -> logits in float32 or wider.
    """
    step = max(1, CHUNK_ELEMENTS // vocab)
    parts = []
    for start in range(0, len(final), step):
        span = slice(start, start + step)
        with torch.no_grad():
            log_p = unembedding(final_base[span]).log_softmax(-1)
        log_q = unembedding(final[span]).log_softmax(-1)
        parts.append(next_token.kl(log_p, log_q).sum())
    return torch.stack(parts).sum() / len(final)

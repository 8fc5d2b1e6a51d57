"""What the models write after a prompt, greedily, with real positions and the key-value cache on."""

from collections.abc import Sequence

import torch

from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.running import Lane, NoAttention, changed, forward_pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel, greedy
from npt_viz.model.tokens import display_token, encode
from npt_viz.question import Positions, Prompt, Question, as_question
from npt_viz.results.downstream import Continuations


def continuations(
    model: BaseModel,
    checkpoint: Checkpoint,
    question: Prompt | Question,
    *,
    n_tokens: int = 32,
) -> Continuations:
    """Base, NPT model, and the NPT layers with their modulation off, side by side.

    Raises NptVizError where prompt and continuation do not fit the context.
    """
    question = as_question(question)
    encoded = encode(model, question)
    if len(encoded.ids) + n_tokens > model.context_length:
        raise NptVizError(
            f"{len(encoded.ids):,} tokens of prompt and {n_tokens} more do not fit {model.name}'s context of "
            f"{model.context_length:,}; shorten the prompt"
        )
    adapters = adapters_of(checkpoint, question.layers)
    off = {layer: NoAttention(attention=adapter.attention) for layer, adapter in adapters.items()}
    base, npt, without = (
        _glyphs(model, greedy_continuation(model, lane, encoded.ids, n_tokens, question.positions))
        for lane in ({}, adapters, off)
    )
    return Continuations(
        prompt="".join(piece.glyph for piece in encoded.pieces),
        base=base,
        npt=npt,
        off=without,
        layers=tuple(adapters),
        positions=question.positions,
    )


def greedy_continuation(
    model: BaseModel, lane: Lane, ids: Sequence[int], n_tokens: int, positions: Positions = "deployed"
) -> list[int]:
    """The new ids; ends early after an end-of-text token."""
    token_ids = torch.tensor([list(ids)])
    try:
        with changed(model, [lane], positions=positions):
            return model.decode(token_ids, n_tokens, greedy, stop_at_end=True)[0].tolist()
    except NotFiniteError:
        forward_pass(
            model, token_ids, [lane], positions=positions
        )  # It names the layer, where it is the prompt's.
        raise


def _glyphs(model: BaseModel, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(display_token(model.tokenizer, i).glyph for i in ids)

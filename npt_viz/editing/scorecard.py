"""How well an update writes a fact, and how much else it changes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from npt_viz.capture.running import Lane, forward_pass
from npt_viz.editing.cases import NEUTRAL_TEXTS, Case
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.lanes import text_drift
from npt_viz.editing.preview import check_base
from npt_viz.editing.readings import windows
from npt_viz.editing.sweep import continuation_ids
from npt_viz.editing.updates import Update
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token, encode
from npt_viz.results.editing import PromptScore, Scorecard


def scorecard(
    model: BaseModel,
    before: Sequence[Update],
    after: Sequence[Update],
    case: Case,
    *,
    neutral: Sequence[str] = NEUTRAL_TEXTS,
) -> Scorecard:
    """Two ledgers' worth of updates on one fact: reliability, generalisation, locality, portability, neutral text.

    A prompt is a hit when every token of the expected continuation is the most probable one; for locality when the
    most probable next token is the same as before.
    """
    for update in after:
        check_base(model, update)
    lanes = [edited_lane(model, before), edited_lane(model, after)]
    drift = text_drift(model, lanes, list(windows(model, neutral)))
    return Scorecard(
        prompts=tuple(_prompts(model, lanes, case)),
        before_perplexity=float(drift.perplexity[0]),
        after_perplexity=float(drift.perplexity[1]),
        neutral_kl=float(drift.kl[1]),
        n_neutral_tokens=drift.n_tokens,
    )


class Answer(NamedTuple):
    """How two lanes continue one prompt with a given continuation."""

    log_p: tuple[float, float]
    """log p of the whole continuation, before and after, nats"""
    is_top: bool
    """Whether each of its tokens is the most probable one afterwards"""
    top_before: int
    top_after: int
    """Most probable next tokens"""
    kl: float
    """KL(before ‖ after) of the next token, nats"""


@torch.no_grad()
def answer(model: BaseModel, lanes: Sequence[Lane], prompt: str, continuation: Sequence[int]) -> Answer:
    """Teacher-forced: the continuation's tokens are given, and each is judged by what precedes it."""
    ids = encode(model, prompt).ids
    known = [*ids, *continuation[:-1]]
    encode(model, known)  # Refuses what does not fit the context.
    with model.lock:
        final = forward_pass(model, torch.tensor([known]), lanes).final[:, len(ids) - 1 :]
        log_p = model.unembedding(final).float().cpu().double().log_softmax(-1)
    wanted = torch.tensor(list(continuation))
    chosen = log_p.gather(-1, wanted.expand(2, -1)[..., None])[..., 0]
    first = log_p[:, 0]
    return Answer(
        log_p=(float(chosen[0].sum()), float(chosen[1].sum())),
        is_top=bool((log_p[1].argmax(-1) == wanted).all()),
        top_before=int(first[0].argmax()),
        top_after=int(first[1].argmax()),
        kl=max(0.0, float((first[0].exp() * (first[0] - first[1])).nan_to_num().sum())),
    )


def _prompts(model: BaseModel, lanes: Sequence[Lane], case: Case) -> Iterator[PromptScore]:
    new = continuation_ids(model, case.new)
    old = (
        continuation_ids(model, case.old) if case.old else [answer(model, lanes, case.prompt, new).top_before]
    )
    asked = [("reliability", case.prompt), *(("generalisation", text) for text in case.paraphrases)]
    for part, prompt in asked:
        yield _told(model, lanes, part, prompt, new, old)
    for prompt, expected in case.consequences:
        wanted = continuation_ids(model, expected)
        stale = [answer(model, lanes, prompt, wanted).top_before]
        yield _told(model, lanes, "portability", prompt, wanted, stale)
    for prompt in case.unrelated:
        found = answer(model, lanes, prompt, [0])
        yield PromptScore(
            part="locality",
            prompt=prompt,
            expected=_glyphs(model, [found.top_before]),
            predicted=_glyphs(model, [found.top_after]),
            hit=found.top_before == found.top_after,
            preferred=found.top_before == found.top_after,
            margin=float(np.nan),
            kl=found.kl,
        )


def _told(
    model: BaseModel, lanes: Sequence[Lane], part: str, prompt: str, new: Sequence[int], old: Sequence[int]
) -> PromptScore:
    found, stale = answer(model, lanes, prompt, new), answer(model, lanes, prompt, old)
    margin = found.log_p[1] - stale.log_p[1]
    return PromptScore(
        part=part,
        prompt=prompt,
        expected=_glyphs(model, new),
        predicted=_glyphs(model, [found.top_after]),
        hit=found.is_top,
        preferred=margin > 0,
        margin=margin,
        kl=found.kl,
    )


def _glyphs(model: BaseModel, ids: Sequence[int]) -> str:
    return "".join(display_token(model.tokenizer, i).glyph for i in ids)

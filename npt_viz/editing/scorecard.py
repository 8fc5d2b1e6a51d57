"""How well an update writes a fact, and how much else it changes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from npt_viz.capture.running import Lane, forward_pass
from npt_viz.editing.cases import NEUTRAL_TEXTS, Case
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.lanes import kl_to_first, text_drift
from npt_viz.editing.preview import check_base
from npt_viz.editing.readings import windows
from npt_viz.editing.sweep import continuation_ids
from npt_viz.editing.updates import Update
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token, encode
from npt_viz.results.editing import PromptScore, Scorecard
from npt_viz.shapes import Float, Tensor


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
    return scorecards(model, before, [after], case, neutral=neutral)[0]


def scorecards(
    model: BaseModel,
    before: Sequence[Update],
    afters: Sequence[Sequence[Update]],
    case: Case,
    *,
    neutral: Sequence[str] = NEUTRAL_TEXTS,
) -> list[Scorecard]:
    """The same for several versions of the edited model at once, in one batch."""
    for update in (update for after in afters for update in after):
        check_base(model, update)
    lanes = [edited_lane(model, updates) for updates in (before, *afters)]
    drift = text_drift(model, lanes, list(windows(model, neutral)))
    rows = list(_prompts(model, lanes, case))
    return [
        Scorecard(
            prompts=tuple(row[i] for row in rows),
            before_perplexity=float(drift.perplexity[0]),
            after_perplexity=float(drift.perplexity[1 + i]),
            neutral_kl=float(drift.kl[1 + i]),
            n_neutral_tokens=drift.n_tokens,
        )
        for i in range(len(afters))
    ]


class Answer(NamedTuple):
    """How every lane continues one prompt with a given continuation; lane 0 is before the edit."""

    log_p: Float[Tensor, "lane"]
    """Of the whole continuation, nats"""
    is_top: Tensor
    """(lane,) bool: whether each of its tokens is the most probable one"""
    top: Tensor
    """(lane,) most probable next tokens"""
    kl: Float[Tensor, "lane"]
    """KL(lane 0 ‖ lane) of the next token, nats"""


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
    return Answer(
        log_p=log_p.gather(-1, wanted.expand(len(lanes), -1)[..., None])[..., 0].sum(-1),
        is_top=(log_p.argmax(-1) == wanted).all(-1),
        top=log_p[:, 0].argmax(-1),
        kl=kl_to_first(log_p[:, 0]),
    )


def _prompts(model: BaseModel, lanes: Sequence[Lane], case: Case) -> Iterator[list[PromptScore]]:
    """For every prompt of the case, its score in each edited lane."""
    new = continuation_ids(model, case.new)
    old = continuation_ids(model, case.old) if case.old else _said_before(model, lanes, case.prompt, new)
    yield _told(model, lanes, "reliability", case.prompt, new, old)
    for prompt in case.paraphrases:
        yield _told(model, lanes, "generalisation", prompt, new, old)
    for prompt in case.unrelated:
        yield _kept(model, lanes, prompt)
    for prompt, expected in case.consequences:
        wanted = continuation_ids(model, expected)
        yield _told(model, lanes, "portability", prompt, wanted, _said_before(model, lanes, prompt, wanted))


def _said_before(model: BaseModel, lanes: Sequence[Lane], prompt: str, wanted: Sequence[int]) -> list[int]:
    """The token that the model says before the edit."""
    return [int(answer(model, lanes[:1], prompt, wanted).top[0])]


def _told(
    model: BaseModel, lanes: Sequence[Lane], part: str, prompt: str, new: Sequence[int], old: Sequence[int]
) -> list[PromptScore]:
    found, stale = answer(model, lanes, prompt, new), answer(model, lanes, prompt, old)
    margins = (found.log_p - stale.log_p).tolist()
    return [
        PromptScore(
            part=part,
            prompt=prompt,
            expected=_glyphs(model, new),
            predicted=_glyphs(model, [int(found.top[lane])]),
            hit=bool(found.is_top[lane]),
            preferred=margins[lane] > 0,
            margin=margins[lane],
            kl=float(found.kl[lane]),
        )
        for lane in range(1, len(lanes))
    ]


def _kept(model: BaseModel, lanes: Sequence[Lane], prompt: str) -> list[PromptScore]:
    found = answer(model, lanes, prompt, [0])
    return [
        PromptScore(
            part="locality",
            prompt=prompt,
            expected=_glyphs(model, [int(found.top[0])]),
            predicted=_glyphs(model, [int(found.top[lane])]),
            hit=bool(found.top[lane] == found.top[0]),
            preferred=bool(found.top[lane] == found.top[0]),
            margin=float("nan"),
            kl=float(found.kl[lane]),
        )
        for lane in range(1, len(lanes))
    ]


def _glyphs(model: BaseModel, ids: Sequence[int]) -> str:
    return "".join(display_token(model.tokenizer, i).glyph for i in ids)

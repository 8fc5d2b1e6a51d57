"""Scorecard of an update on one fact: whether it is written, and what else changes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from npt_viz.capture.running import Lane, forward_pass
from npt_viz.editing.base_check import check_base
from npt_viz.editing.cases import NEUTRAL_TEXTS, Case
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.judging.lanes import text_drift
from npt_viz.editing.judging.sweep import continuation_ids
from npt_viz.editing.making.readings import windows
from npt_viz.editing.updates import Update
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token, encode
from npt_viz.next_token import kl, nll
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
    """Scores of one fact: reliability, generalisation, locality, portability, neutral text.

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
    """Scorecards of several edited models on one fact, in one batch."""
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
    """Probability of one continuation of a prompt in every lane; lane 0 is before the edit."""

    log_p: Float[Tensor, "lane"]
    """Of the whole continuation, nats"""
    is_top: Tensor
    """(lane,) bool: whether each of its tokens is the most probable one"""
    top: Tensor
    """(lane,) most probable next tokens"""
    kl: Float[Tensor, "lane"]
    """KL(lane 0 ‖ lane) of the next token, nats"""


@torch.no_grad()
def answers(
    model: BaseModel, lanes: Sequence[Lane], prompt: str, continuations: Sequence[Sequence[int]]
) -> list[Answer]:
    """Answers for several continuations of one prompt, teacher-forced: each token is judged after the ones before it."""
    ids = encode(model, prompt).ids
    passes: dict[tuple[int, ...], Tensor] = {}
    judged = []
    for continuation in continuations:
        # The last token is judged and never read, so all one-token continuations share a pass.
        known = (*ids, *continuation[:-1])
        if known not in passes:
            encode(model, known)  # Refuses what does not fit the context.
            with model.lock:
                final = forward_pass(model, torch.tensor([known]), lanes).final[:, len(ids) - 1 :]
                passes[known] = model.unembedding(final).float().cpu().double().log_softmax(-1)
        judged.append(_answer(passes[known], continuation))
    return judged


def _answer(log_p: Float[Tensor, "lane token vocab"], continuation: Sequence[int]) -> Answer:
    wanted = torch.tensor(list(continuation))
    return Answer(
        log_p=-nll(log_p, wanted.expand(len(log_p), -1)).sum(-1),
        is_top=(log_p.argmax(-1) == wanted).all(-1),
        top=log_p[:, 0].argmax(-1),
        kl=kl(log_p[:1, 0], log_p[:, 0]),
    )


def _prompts(model: BaseModel, lanes: Sequence[Lane], case: Case) -> Iterator[list[PromptScore]]:
    """For every prompt of the case, its score in each edited lane."""
    new = continuation_ids(model, case.new)
    old = continuation_ids(model, case.old) if case.old else None
    reliability, old = _rewritten(model, lanes, "reliability", case.prompt, new, old)
    yield reliability
    for prompt in case.paraphrases:
        yield _rewritten(model, lanes, "generalisation", prompt, new, old)[0]
    for prompt in case.unrelated:
        yield _kept(model, lanes, prompt)
    for prompt, expected in case.consequences:
        yield _rewritten(model, lanes, "portability", prompt, continuation_ids(model, expected), None)[0]


def _rewritten(
    model: BaseModel,
    lanes: Sequence[Lane],
    part: str,
    prompt: str,
    new: Sequence[int],
    old: Sequence[int] | None,
) -> tuple[list[PromptScore], Sequence[int]]:
    """Score in each edited lane, and the ids of the old answer: by default the model's own before the edit."""
    if old is None:
        old = [int(answers(model, lanes[:1], prompt, [new])[0].top[0])]
    new_answer, old_answer = answers(model, lanes, prompt, [new, old])
    margins = (new_answer.log_p - old_answer.log_p).tolist()
    scores = [
        PromptScore(
            part=part,
            prompt=prompt,
            expected=_glyphs(model, new),
            predicted=_glyphs(model, [int(new_answer.top[lane])]),
            hit=bool(new_answer.is_top[lane]),
            preferred=margins[lane] > 0,
            margin=margins[lane],
            kl=float(new_answer.kl[lane]),
        )
        for lane in range(1, len(lanes))
    ]
    return scores, old


def _kept(model: BaseModel, lanes: Sequence[Lane], prompt: str) -> list[PromptScore]:
    (answer,) = answers(model, lanes, prompt, [[0]])
    return [
        PromptScore(
            part="locality",
            prompt=prompt,
            expected=_glyphs(model, [int(answer.top[0])]),
            predicted=_glyphs(model, [int(answer.top[lane])]),
            hit=bool(answer.top[lane] == answer.top[0]),
            preferred=bool(answer.top[lane] == answer.top[0]),
            margin=float("nan"),
            kl=float(answer.kl[lane]),
        )
        for lane in range(1, len(lanes))
    ]


def _glyphs(model: BaseModel, ids: Sequence[int]) -> str:
    return "".join(display_token(model.tokenizer, i).glyph for i in ids)

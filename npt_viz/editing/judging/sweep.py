"""Sweep of one update over many strengths, in batches that share the layers below the edited one."""

from collections.abc import Callable, Sequence

import numpy as np

from npt_viz.editing.base_check import check_base
from npt_viz.editing.cases import NEUTRAL_TEXTS, UNRELATED
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.judging.lanes import last_log_p, text_drift
from npt_viz.editing.making.readings import windows
from npt_viz.editing.updates import Update, UpdateStore, check_alpha
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token, encode, text_ids
from npt_viz.next_token import kl
from npt_viz.results.editing import AlphaSweep


def default_alphas(largest: float = 10.0, n: int = 41) -> np.ndarray:
    """Default strengths: 0 and, on both sides of it, values that grow by nearly equal factors; n values, n odd."""
    # Three digits: the α that a person reads and types again is the α that was tried.
    side = [float(f"{alpha:.3g}") for alpha in largest * np.geomspace(0.01, 1, n // 2)]
    return np.array([*(-alpha for alpha in reversed(side)), 0.0, *side])


def alpha_sweep(
    model: BaseModel,
    update: Update,
    prompt: str,
    new: str,
    old: str | None = None,
    *,
    alphas: Sequence[float] | np.ndarray | None = None,
    unrelated: Sequence[str] = UNRELATED,
    neutral: Sequence[str] = NEUTRAL_TEXTS[:2],
    ledger: UpdateStore | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> AlphaSweep:
    """Effect of the update at every alpha on the prompt, on unrelated prompts and on a neutral text.

    new, old: continuations of the prompt, of which the first token counts; old is by default what the model says
    without the update. progress: called with what was done and the share of all work.
    A strength at which the edited model overflows has NaN.
    """
    check_base(model, update)
    values = default_alphas() if alphas is None else np.asarray(alphas, float)
    if not len(values):
        raise NptVizError("there is no alpha to try; give at least one")
    for value in values:
        check_alpha(float(value))
    earlier = list(ledger.updates) if ledger else []
    lanes = [edited_lane(model, earlier)]
    lanes += [edited_lane(model, [*earlier, update.at(float(alpha))]) for alpha in values]
    asked, others = encode(model, prompt).ids, [encode(model, text).ids for text in unrelated]
    texts = list(windows(model, neutral))
    report = _Progress(progress, sum(map(len, [asked, *others, *texts])))
    log_p = last_log_p(model, lanes, asked, may_overflow=True).double()
    new_id = first_token(model, new)
    old_id = int(log_p[0].argmax()) if old is None else first_token(model, old)
    report("the prompt", asked)
    unrelated_kl = np.full((max(1, len(others)), len(lanes)), np.nan)
    for i, ids in enumerate(others):
        others_log_p = last_log_p(model, lanes, ids, may_overflow=True)
        unrelated_kl[i] = kl(others_log_p[:1], others_log_p).numpy()
        report("unrelated prompts", ids)
    nll, n_neutral = np.zeros(len(lanes)), 0
    for ids in texts:
        drift = text_drift(model, lanes, [ids], with_kl=False, may_overflow=True)
        nll += drift.nll * drift.n_tokens
        n_neutral += drift.n_tokens
        report("neutral text", ids)
    perplexity = np.exp(nll / n_neutral)
    new_log_p, old_log_p = log_p[1:, new_id].numpy(), log_p[1:, old_id].numpy()
    return AlphaSweep(
        alphas=values,
        new=(display_token(model.tokenizer, new_id).glyph, new_id),
        old=(display_token(model.tokenizer, old_id).glyph, old_id),
        new_log_probability=new_log_p,
        margin=new_log_p - old_log_p,
        unrelated_kl=unrelated_kl[:, 1:].mean(0),
        perplexity=perplexity[1:],
        before_perplexity=float(perplexity[0]),
        n_unrelated=len(others),
        n_neutral_tokens=n_neutral,
    )


class _Progress:
    """Reports the share of all tokens that is done."""

    def __init__(self, listener: Callable[[str, float], None] | None, total: int) -> None:
        self._listener, self._total, self._done = listener, total, 0

    def __call__(self, stage: str, ids: Sequence[int]) -> None:
        self._done += len(ids)
        if self._listener:
            self._listener(stage, self._done / self._total)


def first_token(model: BaseModel, continuation: str) -> int:
    """Id of the first token of a continuation, which usually begins with a space."""
    return continuation_ids(model, continuation)[0]


def continuation_ids(model: BaseModel, continuation: str) -> list[int]:
    """Token ids of a continuation, without a beginning-of-sequence token."""
    ids = text_ids(model, continuation, special=False)
    if not ids:
        raise NptVizError(
            "the continuation is empty; give the text that should follow, with its leading space"
        )
    return ids

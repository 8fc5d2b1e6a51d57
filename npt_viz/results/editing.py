"""Results of permanent updates: previews, sweeps, scorecards, leakage and realised edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from npt_viz.results.estimate import wilson
from npt_viz.results.inspection import Token, TopTokens


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Predictions for one prompt by one version of the model."""

    name: str
    """before, after, NPT on before the edit, NPT on after the edit"""
    logits: np.ndarray
    """(vocab,) after the last token, float32"""
    top: TopTokens
    """(token, k) most probable next tokens"""
    nll: np.ndarray
    """(token,) −log p of the token that follows, nats; NaN at the last token"""
    kl: np.ndarray
    """(token,) KL(before ‖ this), nats"""

    @property
    def next_tokens(self) -> list[tuple[str, int, float]]:
        """(glyph, id, probability) after the last token, most probable first."""
        return self.top.rows(-1)


class NextToken(NamedTuple):
    """Next-token candidate in two versions of the model. Ranks count from 1."""

    glyph: str
    id: int
    probability_before: float
    probability_after: float
    rank_before: int
    rank_after: int


def kept_tables(rows: Sequence[NextToken], pieces: Sequence[Token], kl: np.ndarray) -> dict[str, list[dict]]:
    """What is kept of a prediction that was changed, as rows: candidates at the end, and (token,) KL along the prompt."""
    return {
        "next token": [
            {
                "next token": row.glyph,
                "before": row.probability_before,
                "after": row.probability_after,
                "rank before": row.rank_before,
                "rank after": row.rank_after,
            }
            for row in rows
        ],
        "along the prompt": [
            {"token": i, "glyph": piece.glyph, "KL, nats": float(moved)}
            for i, (piece, moved) in enumerate(zip(pieces, kl, strict=True))
        ],
    }


def rank_changes(before: Outcome, after: Outcome, also: Mapping[int, str] | None = None) -> list[NextToken]:
    """Most probable next tokens of either side, the most probable afterwards first.

    also: id -> glyph of tokens that are listed wherever they rank.
    """
    glyphs = {id_: glyph for outcome in (before, after) for glyph, id_, _ in outcome.next_tokens}
    glyphs |= also or {}
    p = {side.name: _softmax(side.logits) for side in (before, after)}
    rows = [
        NextToken(
            glyph,
            id_,
            float(p[before.name][id_]),
            float(p[after.name][id_]),
            1 + int((before.logits > before.logits[id_]).sum()),
            1 + int((after.logits > after.logits[id_]).sum()),
        )
        for id_, glyph in glyphs.items()
    ]
    return sorted(rows, key=lambda row: row.rank_after)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Distance of the edited model without the context from the base with the context."""

    with_context: str
    """The prompt with its context, as it was run through the model before the edit."""
    kl_plain: float
    """KL(with context ‖ before the edit, without context) at the last token, nats"""
    kl_updated: float
    """KL(with context ‖ after the edit, without context) at the last token, nats"""
    top: list[tuple[str, int, float]]
    """(glyph, id, probability) with the context"""

    @property
    def recovered(self) -> float:
        """1 − kl_updated / kl_plain: 1 is the context's whole effect, 0 none of it, below 0 away from it."""
        return 1 - self.kl_updated / self.kl_plain if self.kl_plain > 0 else float("nan")


class Continuation(NamedTuple):
    """Text that one version of the model writes after a prompt."""

    name: str
    """before or after"""
    style: str
    """greedy, or sampled with its temperature and seed"""
    text: str
    token_ids: tuple[int, ...]


class RealisedEdit(NamedTuple):
    """Part of a requested ΔW that is left when the weight is stored in some dtype."""

    parameter: str
    dtype: str
    requested_norm: float
    """‖ΔW‖_F"""
    relative_norm: float
    """‖ΔW‖_F / ‖W‖_F"""
    realised_norm: float
    """‖cast(W + ΔW) − cast(W)‖_F"""
    cosine: float
    """Of requested and realised ΔW; 1 is an edit without rounding."""
    changed: float
    """Share of the weight's entries that change at all."""
    finite: bool


@dataclass(frozen=True, kw_only=True)
class EditReport:
    """Realised edits and singular values of the summed ΔW of each projection."""

    edits: tuple[RealisedEdit, ...]
    """One a projection and dtype."""
    singular_values: Mapping[str, np.ndarray]
    """Parameter -> the singular values of its ΔW, descending"""


@dataclass(frozen=True, kw_only=True)
class AlphaSweep:
    """Effects of one update at many strengths. Every array is (alpha,)."""

    alphas: np.ndarray
    new: tuple[str, int]
    """(glyph, id) of the token the update should bring"""
    old: tuple[str, int]
    """(glyph, id) of the token that should go"""
    new_log_probability: np.ndarray
    """log p of the new token after the prompt, nats"""
    margin: np.ndarray
    """log p(new) − log p(old), nats"""
    unrelated_kl: np.ndarray
    """Mean KL(before ‖ after) at the last token of unrelated prompts, nats"""
    perplexity: np.ndarray
    """On neutral text"""
    before_perplexity: float
    """The same without the update"""
    n_unrelated: int
    n_neutral_tokens: int
    kl_limit: float = 0.1
    """Nats that unrelated prompts may move in the usable window."""
    perplexity_limit: float = 1.05
    """How many times the perplexity may grow in the usable window."""

    @property
    def is_usable(self) -> np.ndarray:
        """(alpha,) bool: the new token beats the old one, and nothing else that was asked moves beyond the limits."""
        stays = self.unrelated_kl <= self.kl_limit if self.n_unrelated else np.ones_like(self.margin, bool)
        return (self.margin > 0) & stays & (self.perplexity <= self.perplexity_limit * self.before_perplexity)

    @property
    def window(self) -> tuple[float, float] | None:
        """(lowest, highest) alpha of the longest run of usable values; None where no value is usable."""
        best, start = None, None
        for i, usable in enumerate([*self.is_usable, False]):
            if usable and start is None:
                start = i
            if not usable and start is not None:
                if best is None or i - start > best[1] - best[0]:
                    best = (start, i)
                start = None
        return None if best is None else (float(self.alphas[best[0]]), float(self.alphas[best[1] - 1]))


@dataclass(frozen=True, kw_only=True)
class Score:
    """Share of n prompts that are hits."""

    hits: float
    n: int

    @property
    def value(self) -> float:
        """Hits / n; NaN where n is 0."""
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: wide for the few prompts that a page has; NaN where n is 0."""
        return wilson(self.hits, self.n) if self.n else (float("nan"), float("nan"))


class PromptScore(NamedTuple):
    """Score of one prompt."""

    part: str
    """reliability, generalisation, locality or portability"""
    prompt: str
    expected: str
    """The continuation that should follow; for locality the base's own prediction"""
    predicted: str
    """The most probable next token after the edit"""
    hit: bool
    preferred: bool
    """Whether the expected continuation is more probable than the old one; for locality the same as hit"""
    margin: float
    """log p(expected) − log p(old), nats; NaN for locality"""
    kl: float
    """KL(before ‖ after) at the prompt's last token, nats"""


PARTS = ("reliability", "generalisation", "locality", "portability")


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Scores of an update on one fact, and perplexity and KL on neutral text."""

    prompts: tuple[PromptScore, ...]
    before_perplexity: float
    """On neutral text"""
    after_perplexity: float
    neutral_kl: float
    """Mean KL(before ‖ after) over the tokens of the neutral text, nats"""
    n_neutral_tokens: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Measured parts, in the order of PARTS."""
        return tuple(part for part in PARTS if any(row.part == part for row in self.prompts))

    def score(self, part: str, *, preferred: bool = False) -> Score:
        """Score of one of PARTS; preferred counts prompts on which new beats old instead of those where it is the top token."""
        rows = [row for row in self.prompts if row.part == part]
        return Score(hits=float(sum(row.preferred if preferred else row.hit for row in rows)), n=len(rows))

    def harmonic(self, *, preferred: bool = False) -> float:
        """Harmonic mean of the parts that were measured; 0 as soon as one of them is 0."""
        return harmonic_mean([self.score(part, preferred=preferred).value for part in self.parts])

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity on neutral text after / before."""
        return self.after_perplexity / self.before_perplexity


def harmonic_mean(values: list[float]) -> float:
    """Harmonic mean; 0 where a value is 0, NaN where there is none."""
    if not values:
        return float("nan")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / v for v in values)


class HitToken(NamedTuple):
    """Reference token on which an update has a large effect."""

    before: str
    """The text in front of it, as glyphs"""
    glyph: str
    leakage: float


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Effect of an update on other tokens as a share of its effect at the source, in one projection."""

    rule: str
    parameter: str
    leakage: np.ndarray
    """(reference token,) v_a·x′ / v_a·x: the effect on another token along the effect at the source"""
    effect: np.ndarray
    """(reference token,) ‖ΔW x′‖ / ‖ΔW x‖: the same in all directions; equal to |leakage| for one factor"""
    update_norm: float
    """‖ΔW‖_F"""
    hit_most: tuple[HitToken, ...]

    @property
    def rms(self) -> float:
        """Root mean square of the effect on other tokens, in units of the effect at the source."""
        return float(np.sqrt(np.mean(self.effect**2)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()

"""Which tokens of the prompt drive one number at a pinned token, by which method, and how far to believe it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from npt_viz.arguments import checked_fields
from npt_viz.question import Mode, Positions
from npt_viz.results.inspection import Metric
from npt_viz.results.shown import Shown

Kind = Literal["scalar", "update_norm", "logit"]
Method = Literal["ablation", "integrated_gradients", "gradient_x_activation"]


class MethodInfo(NamedTuple):
    """How to read one method's scores."""

    label: str
    meaning: str


METHODS: dict[Method, MethodInfo] = {
    "ablation": MethodInfo(
        "feature ablation",
        "the change of the number when this one token is taken away; a real run, no gradient",
    ),
    "integrated_gradients": MethodInfo(
        "integrated gradients",
        "this token's share of the change when all tokens are faded in together; the shares add up to it",
    ),
    "gradient_x_activation": MethodInfo(
        "gradient × activation", "the slope at the prompt times the token's embedding: first order, and cheap"
    ),
}

MAX_DELTA = 0.05
"""Integrated gradients whose scores miss the change that they divide up by more than this share are refused."""

ROUNDING = 1e-6
"""Two values this close, relatively, are the same number in float32."""

SCORE = Metric(
    "attribution",
    "",
    "how much of the number is due to this token; above 0 it raises the number, below 0 it lowers it",
    0.0,
    True,
)
"""How a score is coloured."""


@checked_fields
@dataclass(frozen=True, kw_only=True)
class Quantity:
    """The number that is asked about."""

    kind: Kind
    """scalar: a component's v_a·x; update_norm: ‖ΔW‖_F; logit: of a next token, or the difference of two."""

    token: int
    """The pinned token: where the number is read."""

    layer: int | None = None
    """Of scalar and update_norm."""

    target: str = "gate"
    """Of scalar and update_norm: gate, up or down."""

    component: int = 0
    """Of scalar."""

    model: Literal["NPT", "base"] = "NPT"
    """Of logit: the running NPT model, or the base model."""

    token_id: int | None = None
    """Of logit: the next token."""

    against: int | None = None
    """Of logit: the token whose logit is taken off."""


class Estimate(NamedTuple):
    """What a run would cost."""

    forwards: int
    """In runs of the prompt up to the pinned token; one with a gradient counts twice."""
    seconds: float
    """At most about this: prompts that run side by side are faster than alone."""

    @property
    def seconds_each(self) -> float:
        """Of one forward pass."""
        return self.seconds / self.forwards


@dataclass(frozen=True, kw_only=True)
class Attribution(Shown):
    """One number at one token, divided up among the tokens before it."""

    quantity: Quantity
    name: str
    """The number in words."""
    method: Method
    mode: Mode
    """local: of the base's stream; propagated: of the running NPT model. A logit always is its model's own."""
    positions: Positions
    tokens: tuple[str, ...]
    """Glyphs of the whole prompt."""
    scores: np.ndarray
    """(token,) in the number's own unit. Tokens after the pinned one come later than the number, so theirs is exactly
    0. Token 0 keeps its place in the baseline, so its score is 0, too; gradient × activation has no baseline."""
    baseline: str
    """Glyph of the token that stands in for the others."""
    value: float
    """The number on the prompt."""
    baseline_value: float
    """The number with every token but the first replaced."""
    delta: float
    """Sum of the scores − (value − baseline_value); NaN for methods that promise no such sum."""
    steps: int
    """Points between baseline and prompt; 0 for methods that have none."""
    forwards: int
    """Prompts run, a gradient counted twice."""
    seconds: float
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.scores.shape != (len(self.tokens),):
            raise ValueError(f"scores {self.scores.shape} do not fit {len(self.tokens)} tokens")

    @property
    def asked(self) -> slice:
        """The tokens that can have a score: after the first, up to the pinned one."""
        return slice(1, self.quantity.token + 1)

    @property
    def relative_delta(self) -> float:
        """|delta| / |value − baseline_value|"""
        change = abs(self.value - self.baseline_value)
        return abs(self.delta) / change if change > 0 else float("nan")

    @property
    def problem(self) -> str | None:
        """Why these scores are not shown, in a sentence; None where they may be."""
        if not np.isfinite(self.scores).all() or not np.isfinite(self.value):
            return (
                f"{self.name} is not finite on this prompt, so it cannot be attributed; look at Home for NaN weights, "
                "or switch off the layer that overflows"
            )
        if self.method != "integrated_gradients":
            return None
        if np.isclose(self.value, self.baseline_value, rtol=ROUNDING, atol=0):
            return (
                f"{self.name} is the same with every token replaced, so there is no change to divide up; "
                "choose another baseline, or feature ablation"
            )
        if self.relative_delta > MAX_DELTA:
            return (
                f"integrated gradients did not converge: with {self.steps} steps the scores miss the change that they "
                f"divide up by {self.relative_delta:.0%} of it (allowed {MAX_DELTA:.0%}); take {4 * self.steps} steps, "
                "or feature ablation"
            )
        return None

    @property
    def strongest(self) -> int | None:
        """The token with the largest score by size; None where all are 0."""
        sizes = np.abs(self.scores[self.asked])
        return 1 + int(np.argmax(sizes)) if sizes.size and sizes.max() > 0 else None


def rank_correlation(first: Attribution, second: Attribution) -> float:
    """Spearman's ρ of two methods' scores over the tokens that can have one; NaN where either is constant."""
    if (first.quantity, first.tokens) != (second.quantity, second.tokens):
        raise ValueError("rank correlation of two different questions")
    return spearman(first.scores[first.asked], second.scores[second.asked])


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of the ranks; equal values share the mean of their ranks."""
    ranks = [_ranks(np.asarray(values, float)) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    size = np.sqrt(np.prod([np.square(rank).sum() for rank in centred]))
    return float(centred[0] @ centred[1] / size) if size > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]

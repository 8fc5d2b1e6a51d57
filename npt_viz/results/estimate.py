"""A median or a share with its interval, and whether one thing is clearly more than another: the rule behind every verdict.

The interval is that of the order statistics (the sign test turned round): it asks nothing of the distribution, and of
few values it is infinitely wide, so that few tokens decide nothing. Which single values stand out is told by their robust
spread, which a few of them cannot stretch.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95
"""Of an interval that is shown."""

DECIDING = 0.999
"""Of an interval that decides: dozens of alternatives are tried on tokens that resemble their neighbours."""

FAR = 3.0
"""Robust standard deviations from the median beyond which a single value stands out."""

OF_NORMAL = 1.4826
"""Standard deviation of normal values, in units of their median distance from the median."""

Comparison = Literal["more", "no more", "cannot tell"]


class Estimate(NamedTuple):
    """A median over tokens with its interval."""

    value: float
    """NaN without a finite value."""
    low: float
    high: float
    n: int
    """Finite values behind it."""


def median_of(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """The median of the finite values, with its interval; −∞ … ∞ where they are too few for the confidence."""
    ordered = np.sort(np.asarray(values, float).ravel())
    ordered = ordered[np.isfinite(ordered)]
    n = len(ordered)
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0)
    left_out = _left_out(n, (1 - confidence) / 2)
    low, high = (-math.inf, math.inf) if left_out < 0 else (ordered[left_out], ordered[n - 1 - left_out])
    return Estimate(float(np.median(ordered)), float(low), float(high), n)


def compared(
    values: np.ndarray, others: np.ndarray, *, margin: float = 0.0, confidence: float = DECIDING
) -> Comparison:
    """Whether `others` exceed `values` by more than the margin, token by token (median of the differences).

    values, others: (token,) of the same tokens; tokens without a finite value on both sides do not count.
    "no more" needs the power to see it: the whole interval of the differences lies below the margin.
    """
    difference = median_of(np.asarray(others, float) - np.asarray(values, float), confidence)
    if difference.low > margin:
        return "more"
    return "no more" if difference.high < margin else "cannot tell"


class Spread(NamedTuple):
    """How far values lie from their median, a few far ones left aside."""

    middle: float
    """Their median."""
    size: float
    """FAR robust standard deviations, 3 · 1.4826 · median |value − median|; NaN where the values are too few to tell."""
    n: int
    """Finite values behind it."""
    is_rounding: bool = False
    """Whether the size is what rounding alone can do, because the values lie closer than that."""

    def stand_out(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Which values lie further from the median than the spread; none where it is not known."""
        return np.abs(np.asarray(values, float) - self.middle) > self.size


def spread_of(values: Sequence[float] | np.ndarray, *, rounding: float = 0.0) -> Spread:
    """Robust spread of the finite values; unknown where their median has no interval either.

    rounding: what a value can be off by rounding alone; the spread is no smaller, so that rounding never stands out.
    """
    kept = np.asarray(values, float).ravel()
    kept = kept[np.isfinite(kept)]
    if _left_out(len(kept), (1 - CONFIDENCE) / 2) < 0:
        return Spread(float(np.median(kept)) if len(kept) else math.nan, math.nan, len(kept))
    middle = float(np.median(kept))
    size = FAR * OF_NORMAL * float(np.median(np.abs(kept - middle)))
    return Spread(middle, max(size, rounding), len(kept), is_rounding=rounding > size)


def sd(values: Sequence[float] | np.ndarray) -> float:
    """Standard deviation with n − 1; NaN for fewer than two values, which have none."""
    values = np.asarray(values, float)
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n trials; 0 to 1 where there is no trial, because then nothing is known."""
    if n == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not push an end past the share itself.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def _left_out(n: int, tail: float) -> int:
    """How many values at each end lie outside the interval: the largest k with P(Binomial(n, ½) ≤ k) ≤ tail; or −1."""
    below, log_probability = 0.0, -n * math.log(2)
    for k in range(n // 2 + 1):
        below += math.exp(log_probability)
        if below > tail:
            return k - 1
        log_probability += math.log(n - k) - math.log(k + 1)
    return n // 2

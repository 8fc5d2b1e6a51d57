"""Quantiles of a stream with a stated relative error: counts in bins whose width grows with the value.

C. Masson, J. E. Rim, H. K. Lee: DDSketch, a fast and fully-mergeable quantile sketch with relative-error guarantees,
PVLDB 12(12), 2019. Bin i holds γ^(i−1) < |x| ≤ γ^i with γ = (1 + α) / (1 − α) and stands for 2 γ^i / (γ + 1), which is
within α of all of them. Counts are whole numbers, so that merging is exact and its order does not matter.
"""

import math
from dataclasses import dataclass

import numpy as np

from npt_viz.results.scan import RELATIVE_ERROR

GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST = 1e-12
"""Values that are nearer to zero count as zero."""

_OFFSET = 2**20
"""Between the codes of zero and of |x| = 1: more than any float needs."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of values by bin; the codes of bins ascend as the values do."""

    codes: np.ndarray
    """(bin,) int64, ascending; 0 is zero, negative values have negative codes"""
    counts: np.ndarray
    """(bin,) int64"""

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    def merged(self, other: "Sketch") -> "Sketch":
        """The sketch of the values of both."""
        codes, place = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Sketch(codes, counts)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Values at these levels: of n values the one with ⌊q (n − 1)⌋ below it, within RELATIVE_ERROR; NaN of nothing."""
        if not self.n:
            return np.full(len(levels), math.nan)
        ranks = np.floor(np.asarray(levels) * (self.n - 1))
        return self.values[np.searchsorted(np.cumsum(self.counts), ranks, side="right")]

    @property
    def values(self) -> np.ndarray:
        """(bin,) the value that each bin stands for"""
        size = 2 * GAMMA ** (np.abs(self.codes) - _OFFSET).astype(float) / (GAMMA + 1)
        return np.where(self.codes == 0, 0.0, np.sign(self.codes) * size)


EMPTY = Sketch(np.empty(0, np.int64), np.empty(0, np.int64))


def sketch_of(values: np.ndarray) -> Sketch:
    """Sketch of finite values."""
    values = np.asarray(values, float)
    codes = np.zeros(len(values), np.int64)
    far = np.abs(values) > SMALLEST
    bins = np.ceil(np.log(np.abs(values[far])) / math.log(GAMMA)).astype(np.int64)
    codes[far] = np.where(values[far] > 0, 1, -1) * (bins + _OFFSET)
    return Sketch(*np.unique(codes, return_counts=True)) if len(codes) else EMPTY

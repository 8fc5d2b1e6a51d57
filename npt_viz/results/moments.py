"""Exact count, mean and variance of streams, put together from those of their parts (Chan, Golub, LeVeque 1983)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """Of many streams at once; float64, arrays of one shape."""

    n: np.ndarray
    """Values, int64."""
    mean: np.ndarray
    """0 where there is no value."""
    squares: np.ndarray
    """Sum of squared distances from the mean."""

    def merged(self, other: "Moments") -> "Moments":
        """Moments of the values of both."""
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        between = other.mean - self.mean
        return Moments(
            n,
            self.mean + between * share,
            self.squares + other.squares + between**2 * self.n * share,
        )

    def over(self, rows: "slice | list[int]") -> "Moments":
        """Moments of some rows together, in their order."""
        rows = list(range(len(self.n)))[rows] if isinstance(rows, slice) else rows
        total = Moments(*(np.zeros_like(each[0]) for each in (self.n, self.mean, self.squares)))
        for row in rows:
            total = total.merged(Moments(self.n[row], self.mean[row], self.squares[row]))
        return total

    @property
    def means(self) -> np.ndarray:
        """NaN where there is no value."""
        return np.where(self.n > 0, self.mean, np.nan)

    @property
    def sds(self) -> np.ndarray:
        """Standard deviations with n − 1; NaN below two values."""
        return np.sqrt(np.where(self.n > 1, self.squares / np.maximum(self.n - 1, 1), np.nan))


def moments_of(values: np.ndarray, group: np.ndarray, n_groups: int) -> Moments:
    """Moments by group and column, each (group, column); values that are not finite do not count.

    values: (row, column). group: (row,) index of each row's group.
    """
    values = np.asarray(values, np.float64)
    shape = (n_groups, values.shape[1])
    n, mean, squares = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for column in range(values.shape[1]):
        kept = np.isfinite(values[:, column])
        x, g = values[kept, column], group[kept]
        n[:, column] = np.bincount(g, minlength=n_groups)
        mean[:, column] = np.bincount(g, x, n_groups) / np.maximum(n[:, column], 1)
        squares[:, column] = np.bincount(g, (x - mean[g, column]) ** 2, n_groups)
    return Moments(n, mean, squares)

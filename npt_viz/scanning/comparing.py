"""Two scans, number by number: differences of means with intervals over texts, text by text where both read the same tokens."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.results.experiments import t_quantile
from npt_viz.results.scan import ScanComparison, ScanDifference, ScanResult
from npt_viz.scanning.folder import ScanFolder, read_scan
from npt_viz.scanning.summary import LEAST_CLUSTERS, Clusters


class _Side(NamedTuple):
    """One scan and the numbers that are compared."""

    result: ScanResult
    columns: list[int]

    @property
    def means(self) -> np.ndarray:
        return self.result.counted.means[self.columns]

    @property
    def n(self) -> np.ndarray:
        return self.result.counted.n[self.columns]

    def residuals(self, clusters: Clusters) -> np.ndarray:
        """(cluster, column) what each text adds to the error of the mean: (sum − mean · n) / N."""
        n, sums = clusters.n[:, self.columns], clusters.sums[:, self.columns]
        return (sums - self.means * n) / self.n


@checked
def compare_scans(a: ScanResult | str | Path, b: ScanResult | str | Path) -> ScanComparison:
    """B against A: the difference of every mean that both have, sinks left out, with its 95 % interval.

    a, b: results whose folders are still there, or the folders. Tokens of one text are not independent, so the interval is
    over texts. Where both scans read the same tokens, cut alike, the difference is taken text by text and what the texts
    share cancels; else the two are taken as independent.
    Raises NptVizError for a scan that is not finished, and two that have no number in common.
    """
    a, b = (each if isinstance(each, ScanResult) else read_scan(each) for each in (a, b))
    shared = [quantity for quantity in a.quantities if b.has(quantity.key)]
    if not shared:
        raise NptVizError(
            f"the scans have no number in common: A has layers {', '.join(map(str, a.layers))} and B "
            f"{', '.join(map(str, b.layers))}, and not both have predictions; scan both with the same layers"
        )
    sides = [_Side(each, [each.index(quantity.key) for quantity in shared]) for each in (a, b)]
    is_paired = a.digest == b.digest and all(
        each.folder and ScanFolder(each.folder).has(0) for each in (a, b)
    )
    half, n = _paired(*sides) if is_paired else _apart(*sides)
    return ScanComparison(
        a=a,
        b=b,
        is_paired=is_paired,
        differences=tuple(
            ScanDifference(
                quantity=quantity, a=float(x), b=float(y), half_width=float(width), n_clusters=int(count)
            )
            for quantity, x, y, width, count in zip(
                shared, sides[0].means, sides[1].means, half, n, strict=True
            )
        ),
    )


def _apart(a: _Side, b: _Side) -> tuple[np.ndarray, np.ndarray]:
    """(half widths, texts of the smaller side)"""
    halves = [side.result.half_widths[side.columns] for side in (a, b)]
    counts = [side.result.n_clusters[side.columns] for side in (a, b)]
    return np.hypot(*halves), np.minimum(*counts)


def _paired(a: _Side, b: _Side) -> tuple[np.ndarray, np.ndarray]:
    """(half widths, texts)"""
    squares = np.zeros(len(a.columns))
    n = np.zeros(len(a.columns), np.int64)
    for left, right in _in_step(a.result, b.result):
        difference = b.residuals(right) - a.residuals(left)
        has = (left.n[:, a.columns] > 0) | (right.n[:, b.columns] > 0)
        squares += np.where(has, difference**2, 0.0).sum(0)
        n += has.sum(0)
    half = np.full(len(n), math.nan)
    for i in np.flatnonzero(n >= LEAST_CLUSTERS):
        # The residuals of all texts sum to zero.
        half[i] = t_quantile(0.975, int(n[i]) - 1) * math.sqrt(squares[i] * n[i] / (n[i] - 1))
    return half, n


def _in_step(a: ScanResult, b: ScanResult) -> Iterator[tuple[Clusters, Clusters]]:
    """The texts of both, part by part."""
    folders = [ScanFolder(each.folder).summaries(each) for each in (a, b)]
    for left, right in zip(*folders, strict=True):
        assert left.clusters is not None and right.clusters is not None, "a part has its texts"
        yield left.clusters, right.clusters

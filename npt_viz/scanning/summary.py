"""Summary of a part, small and mergeable: moments by group, quantiles, the worst tokens, sums by text.

Parts are merged in their order, so that whoever measured them, the sums are the same to the last bit.
"""

import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.results.experiments import t_quantile
from npt_viz.results.moments import Moments, moments_of
from npt_viz.results.scan import CLASSES, GROUPS, LEVELS, N_GROUPS, Quantity, Worst
from npt_viz.scanning.sketch import EMPTY, Sketch, sketch_of
from npt_viz.scanning.windows import Part

AFTER = 8
"""Tokens behind a worst token that are kept with it."""

LEAST_CLUSTERS = 8
"""Texts of which a mean gets an interval: of fewer its width is not known well enough."""

_FIRST_OF = dict(zip(GROUPS, np.cumsum([0, *map(len, GROUPS.values())]).tolist()[:-1], strict=True))


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Every token of a part, in the order of the corpus."""

    quantities: tuple[Quantity, ...]
    values: np.ndarray
    """(token, quantity) float32; NaN where a token has no such number"""
    window: np.ndarray
    """(token,) number of its window"""
    cluster: np.ndarray
    """(token,) the text that it is from"""
    position: np.ndarray
    """(token,) in its window"""
    of_class: np.ndarray
    """(token,) index in CLASSES"""
    place: np.ndarray
    """(token,) index in PLACES"""
    script: np.ndarray
    """(token,) index in SCRIPTS"""

    @property
    def is_sink(self) -> np.ndarray:
        return self.of_class == CLASSES.index("sink")


@dataclass(frozen=True, eq=False)
class Kept:
    """The part of a window that is kept with its worst token."""

    source: str
    start: int
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class Clusters:
    """Sums by text: tokens of one text are no independent values, so intervals are over these."""

    number: np.ndarray
    """(cluster,) ascending"""
    n: np.ndarray
    """(cluster, quantity) int64"""
    sums: np.ndarray
    """(cluster, quantity) float64"""


@dataclass(frozen=True, eq=False)
class Spread:
    """Of the sums and numbers of values of texts: their means and how they vary together, mergeable (Chan)."""

    n: np.ndarray
    """(quantity,) texts that have a value"""
    mean: np.ndarray
    """(2, quantity) mean sum, mean number of values"""
    products: np.ndarray
    """(3, quantity) sums of products of distances from the means: sum², sum · number, number²"""

    def merged(self, other: "Spread") -> "Spread":
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        s, m = other.mean - self.mean
        return Spread(
            n,
            self.mean + (other.mean - self.mean) * share,
            self.products + other.products + np.stack([s * s, s * m, m * m]) * self.n * share,
        )

    def half_widths(self) -> np.ndarray:
        """(quantity,) half of the 95 % interval of the mean over values, texts drawn independently; NaN of too few.

        The mean is a ratio, Σ sums / Σ numbers; its variance is that of Σ (sum − mean · number) (linearised).
        """
        half = np.full(len(self.n), math.nan)
        for i in np.flatnonzero(self.n >= LEAST_CLUSTERS):
            n, (s, m) = int(self.n[i]), self.mean[:, i]
            ratio = s / m
            squares = self.products[0, i] - 2 * ratio * self.products[1, i] + ratio**2 * self.products[2, i]
            half[i] = t_quantile(0.975, n - 1) * math.sqrt(max(squares, 0.0) / (n - 1) / n) / m
        return half


def spread_of(clusters: Clusters) -> Spread:
    """Spread of some texts."""
    has = clusters.n > 0
    n = has.sum(0)
    both = np.stack([clusters.sums, clusters.n.astype(float)])
    mean = (both * has).sum(1) / np.maximum(n, 1)
    s, m = (both - mean[:, None]) * has
    return Spread(n, mean, np.stack([(s * s).sum(0), (s * m).sum(0), (m * m).sum(0)]))


@dataclass(frozen=True, eq=False)
class Summary:
    """A part, or several that follow each other."""

    digest: str
    n_tokens: int
    n_sinks: int
    n_windows: int
    n_texts: int
    n_short: int
    moments: Moments
    """(group, quantity)"""
    ends: np.ndarray
    """(2, quantity) lowest and highest, sinks left out; infinite of nothing"""
    sketches: tuple[Sketch, ...]
    """(quantity,) sinks left out"""
    worst: tuple[tuple[Worst, ...], ...]
    """(quantity,) sinks left out"""
    kept: dict[int, Kept]
    """Window -> what of it is kept."""
    spread: Spread
    clusters: Clusters | None = None
    """Of one part."""


@dataclass(eq=False)
class Merged:
    """Summaries of parts 0, 1, … as far as they are there; grows by none of their lengths."""

    quantities: tuple[Quantity, ...]
    top: int
    total: Summary | None = None
    n_parts: int = 0
    digests: list[str] = field(default_factory=list)

    def add(self, summary: Summary) -> None:
        """Take the next part in."""
        self.total = (
            summary if self.total is None else _merged(self.quantities, self.top, self.total, summary)
        )
        self.n_parts += 1
        self.digests.append(summary.digest)


def numbers_of(total: Summary) -> dict[str, Any]:
    """What a ScanResult has of every quantity."""
    lows, highs = np.where(np.isfinite(total.ends), total.ends, np.nan)
    return {
        "moments": total.moments,
        "lows": lows,
        "highs": highs,
        # No bin may stand for more than the highest value, or less than the lowest.
        "quantiles": np.clip(
            np.stack([each.quantiles(np.array(LEVELS)) for each in total.sketches], axis=1), lows, highs
        ),
        "half_widths": total.spread.half_widths(),
        "n_clusters": total.spread.n,
        "worst": total.worst,
    }


def summary_of(table: TokenTable, part: Part, top: int) -> Summary:
    """Summary of one part. top: how many of the worst tokens are kept of each quantity."""
    counted = ~table.is_sink
    values = np.where(counted[:, None], table.values, np.nan)
    worst = tuple(_worst(quantity, values[:, i], table, top) for i, quantity in enumerate(table.quantities))
    finite = [values[np.isfinite(values[:, i]), i] for i in range(len(table.quantities))]
    clusters = _clusters(values, table.cluster)
    return Summary(
        digest=part.digest,
        n_tokens=len(table.values),
        n_sinks=int(table.is_sink.sum()),
        n_windows=len(part.windows),
        n_texts=part.n_texts,
        n_short=part.n_short,
        moments=_moments(table, values),
        ends=np.array(
            [[float(f(x, initial=edge)) for x in finite] for f, edge in ((np.min, np.inf), (np.max, -np.inf))]
        ),
        sketches=tuple(map(sketch_of, finite)),
        worst=worst,
        kept=_kept(part, worst),
        spread=spread_of(clusters),
        clusters=clusters,
    )


def _moments(table: TokenTable, values: np.ndarray) -> Moments:
    parts = (
        moments_of(table.values, table.of_class, len(GROUPS["class"])),
        moments_of(values, table.place, len(GROUPS["position"])),
        moments_of(values, table.script, len(GROUPS["script"])),
    )
    return Moments(
        *(np.concatenate([getattr(each, name) for each in parts]) for name in ("n", "mean", "squares"))
    )


def _worst(quantity: Quantity, values: np.ndarray, table: TokenTable, top: int) -> tuple[Worst, ...]:
    """The worst first; of equal ones the earlier in the corpus."""
    if not quantity.worse:
        return ()
    rows = np.flatnonzero(np.isfinite(values))
    order = rows[np.argsort(-quantity.badness(values[rows].astype(float)), kind="stable")[:top]]
    return tuple(Worst(float(values[i]), int(table.window[i]), int(table.position[i])) for i in order)


def _kept(part: Part, worst: tuple[tuple[Worst, ...], ...]) -> dict[int, Kept]:
    last: dict[int, int] = {}
    for each in (token for tokens in worst for token in tokens):
        last[each.window] = max(last.get(each.window, 0), each.position)
    return {
        window.number: Kept(window.source, window.start, window.ids[: last[window.number] + 1 + AFTER])
        for window in part.windows
        if window.number in last
    }


def _clusters(values: np.ndarray, cluster: np.ndarray) -> Clusters:
    number, which = np.unique(cluster, return_inverse=True)
    is_value = np.isfinite(values)
    n, sums = (np.zeros((len(number), values.shape[1]), kind) for kind in (np.int64, np.float64))
    for i in range(values.shape[1]):
        n[:, i] = np.bincount(which, is_value[:, i], len(number))
        sums[:, i] = np.bincount(
            which, np.where(is_value[:, i], values[:, i], 0.0).astype(float), len(number)
        )
    return Clusters(number, n, sums)


def _merged(quantities: tuple[Quantity, ...], top: int, a: Summary, b: Summary) -> Summary:
    worst = tuple(
        _worst_of(quantity, [*left, *right], top)
        for quantity, left, right in zip(quantities, a.worst, b.worst, strict=True)
    )
    used = {token.window for tokens in worst for token in tokens}
    return Summary(
        digest="",
        n_tokens=a.n_tokens + b.n_tokens,
        n_sinks=a.n_sinks + b.n_sinks,
        n_windows=a.n_windows + b.n_windows,
        n_texts=a.n_texts + b.n_texts,
        n_short=a.n_short + b.n_short,
        moments=a.moments.merged(b.moments),
        ends=np.stack([np.minimum(a.ends[0], b.ends[0]), np.maximum(a.ends[1], b.ends[1])]),
        sketches=tuple(x.merged(y) for x, y in zip(a.sketches, b.sketches, strict=True)),
        worst=worst,
        kept={number: kept for number, kept in (a.kept | b.kept).items() if number in used},
        spread=a.spread.merged(b.spread),
    )


def _worst_of(quantity: Quantity, tokens: list[Worst], top: int) -> tuple[Worst, ...]:
    # In the order of the corpus: of equal ones the earlier.
    tokens.sort(key=lambda each: (each.window, each.position))
    bad = quantity.badness(np.array([each.value for each in tokens], float))
    return tuple(tokens[i] for i in np.argsort(-bad, kind="stable")[:top])


def to_bytes(summary: Summary) -> bytes:
    """A part's summary as the bytes of its file (npz, no pickle); the same for the same summary."""
    assert summary.clusters is not None, "only a part has a file"
    kept = sorted(summary.kept.items())
    worst = [(i, *token) for i, tokens in enumerate(summary.worst) for token in tokens]
    about = {name: getattr(summary, name) for name in _COUNTS} | {
        "kept": [[number, each.source, each.start] for number, each in kept]
    }
    lengths = [len(each.codes) for each in summary.sketches]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        n=summary.moments.n,
        mean=summary.moments.mean,
        squares=summary.moments.squares,
        ends=summary.ends,
        lengths=np.array(lengths, np.int64),
        codes=np.concatenate([each.codes for each in summary.sketches] or [EMPTY.codes]),
        counts=np.concatenate([each.counts for each in summary.sketches] or [EMPTY.counts]),
        worst=np.array([row[2:] for row in worst], np.int64).reshape(-1, 2),
        worst_of=np.array([row[0] for row in worst], np.int64),
        worst_value=np.array([row[1] for row in worst], np.float64),
        kept_lengths=np.array([len(each.ids) for _, each in kept], np.int64),
        kept_ids=np.concatenate([each.ids for _, each in kept] or [np.empty(0, np.int64)]),
        cluster=summary.clusters.number,
        cluster_n=summary.clusters.n,
        cluster_sums=summary.clusters.sums,
    )
    return buffer.getvalue()


_COUNTS = ("digest", "n_tokens", "n_sinks", "n_windows", "n_texts", "n_short")


def from_bytes(content: bytes, n_quantities: int, name: str) -> Summary:
    """A part's summary back from its file. Raises NptVizError, which names the file, where it is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            a = {key: file[key] for key in file.files}
        about = json.loads(a["about"].tobytes())
        if a["n"].shape != (N_GROUPS, n_quantities):
            raise ValueError("other quantities")
        cuts = np.cumsum(a["lengths"])[:-1]
        codes, counts = np.split(a["codes"], cuts), np.split(a["counts"], cuts)
        worst: list[list[Worst]] = [[] for _ in range(n_quantities)]
        for i, value, (window, position) in zip(a["worst_of"], a["worst_value"], a["worst"], strict=True):
            worst[i].append(Worst(float(value), int(window), int(position)))
        ids = np.split(a["kept_ids"], np.cumsum(a["kept_lengths"])[:-1]) if len(a["kept_lengths"]) else []
        clusters = Clusters(a["cluster"], a["cluster_n"], a["cluster_sums"])
        return Summary(
            **{key: about[key] for key in _COUNTS},
            moments=Moments(a["n"], a["mean"], a["squares"]),
            ends=a["ends"],
            sketches=tuple(map(Sketch, codes, counts)),
            worst=tuple(map(tuple, worst)),
            kept={
                number: Kept(source, start, each)
                for (number, source, start), each in zip(about["kept"], ids, strict=True)
            },
            spread=spread_of(clusters),
            clusters=clusters,
        )
    except Exception:  # A reader of damaged bytes can raise anything.
        raise NptVizError(
            f"{name}: is damaged; remove it and scan again into the same folder, and only that part is done again"
        ) from None

"""What a scan of a corpus found: every number of the tokens as running means, quantiles and worst tokens, by kind of token."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from npt_viz.question import Mode, Positions
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Metric
from npt_viz.results.moments import Moments

RELATIVE_ERROR = 0.002
"""Of every quantile, against the value of its rank."""

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Quantiles that are kept."""

CLASSES = (
    "sink",
    "special",
    "broken bytes",
    "white space",
    "number",
    "punctuation",
    "word start",
    "word continuation",
    "other",
)
"""Classes of tokens, each token in the first that fits (npt_viz/scanning/classes.py)."""

SCRIPTS = (
    "Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Devanagari", "Bengali", "Tamil", "Thai", "Georgian",
    "Hangul", "Hiragana", "Katakana", "Han", "other script", "no letter",
)  # fmt: skip
"""Script of a token's first letter."""


class Place(NamedTuple):
    """A range of positions in a window."""

    first: int
    label: str


PLACES = (
    Place(0, "0"),
    Place(1, "1–3"),
    Place(4, "4–15"),
    Place(16, "16–63"),
    Place(64, "64–255"),
    Place(256, "256–1,023"),
    Place(1024, "1,024–4,095"),
    Place(4096, "from 4,096"),
)

GROUPS: dict[str, tuple[str, ...]] = {
    "class": CLASSES,
    "position": tuple(place.label for place in PLACES),
    "script": SCRIPTS,
}
"""Ways to divide the tokens. Sinks are a class of their own; they are left out of the other two."""

N_GROUPS = sum(map(len, GROUPS.values()))

Worse = Literal["high", "low", "far", ""]
"""Which values of a number are bad: high ones, low ones, those far from its reference; none."""

_PREDICTED = TOKEN_METRICS | {
    "nll_base": Metric("NLL, base", "nats", "surprise of the base at the token that follows", None, False),
    "nll_npt": Metric("NLL, NPT", "nats", "surprise of the NPT model at the token that follows", None, False),
    "agrees": Metric(
        "top-1 agreement",
        "share",
        "whether base and NPT model expect the same next token",
        1.0,
        False,
        good="near 1",
    ),
}

WORSE: dict[str, Worse] = {
    "scalar": "far", "update_norm": "high", "relative_error": "high", "cosine": "low", "magnitude_ratio": "far",
    "recovered": "low", "kl": "high", "nll_change": "high", "nll_base": "high", "nll_npt": "high", "agrees": "",
}  # fmt: skip
"""Number -> which of its values are the worst."""

FITS = ("recovered", "relative_error", "cosine", "magnitude_ratio")
"""Numbers that every layer has."""

PREDICTED = tuple(_PREDICTED)
"""Numbers of the whole NPT model's prediction."""


class Quantity(NamedTuple):
    """One number that every token has."""

    name: str
    """A name of METRICS or PREDICTED."""
    layer: int | None = None
    target: str = ""
    """Of a scalar and of ‖ΔW‖: whose."""
    component: int | None = None

    @property
    def column(self) -> str:
        """Its name without the layer, as Inspection.to_frame has it: scalar_gate_0, update_norm_up."""
        parts = (self.name, self.target, "" if self.component is None else str(self.component))
        return "_".join(filter(None, parts))

    @property
    def key(self) -> str:
        """15 recovered; kl"""
        return self.column if self.layer is None else f"{self.layer} {self.column}"

    @property
    def metric(self) -> Metric:
        """How to read it."""
        return METRICS[self.name] if self.layer is not None else _PREDICTED[self.name]

    @property
    def label(self) -> str:
        """share recovered; scalar v_a·z, up 1"""
        whose = f", {self.target}" if self.target else ""
        which = "" if self.component is None else f" {self.component}"
        # Its general label names the gate, which is one of the targets here.
        return ("‖ΔW‖" if self.name == "update_norm" else self.metric.label) + whose + which

    @property
    def worse(self) -> Worse:
        return WORSE[self.name]

    def badness(self, values: np.ndarray) -> np.ndarray:
        """Larger is worse."""
        match self.worse:
            case "low":
                return -values
            case "far":
                return np.abs(values - (self.metric.reference or 0.0))
        return values


class Worst(NamedTuple):
    """A token at which a number is among the worst."""

    value: float
    window: int
    """Number of the window."""
    position: int
    """In the window."""


class Context(NamedTuple):
    """A window that holds one of the worst tokens, as far as it was kept."""

    source: str
    """File and line."""
    start: int
    """Position of its first kept token in its text's block."""
    ids: tuple[int, ...]
    glyphs: tuple[str, ...]
    text: str
    """Of these tokens, without the one that begins a sequence."""
    bos: bool
    """Whether that token is the first of them."""


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """A scan, finished or as far as it is. Unless said otherwise attention sinks are left out, and count as a class."""

    model: str
    checkpoint: str
    mode: Mode
    positions: Positions
    layers: tuple[int, ...]
    corpus: tuple[str, ...]
    """Names of the corpus's files, without their folders."""
    window: int
    """Tokens of a window at most."""
    max_tokens: int | None
    n_tokens: int
    n_sinks: int
    n_windows: int
    n_texts: int
    n_parts: int
    skipped: Mapping[str, int]
    """What was left out, by reason."""
    is_finished: bool
    digest: str
    """Hash of all tokens and of how they were cut: equal for two scans whose differences can be taken text by text."""
    quantities: tuple[Quantity, ...]
    moments: Moments
    """(group, quantity): the rows of GROUPS, one after the other."""
    lows: np.ndarray
    """(quantity,)"""
    highs: np.ndarray
    quantiles: np.ndarray
    """(level, quantity): LEVELS, within RELATIVE_ERROR"""
    half_widths: np.ndarray
    """(quantity,) half of the mean's 95 % interval over texts; NaN of too few"""
    n_clusters: np.ndarray
    """(quantity,) texts, or blocks of long ones, behind it"""
    worst: tuple[tuple[Worst, ...], ...]
    """(quantity,) the worst tokens, the worst first"""
    contexts: Mapping[int, Context]
    """Window -> its text, of the windows in `worst`."""
    notes: tuple[str, ...] = ()
    folder: str = field(default="", compare=False)

    def __post_init__(self):
        if self.moments.n.shape != (N_GROUPS, len(self.quantities)):
            raise ValueError(f"moments {self.moments.n.shape} do not fit {len(self.quantities)} quantities")

    @property
    def counted(self) -> Moments:
        """(quantity,) of all tokens but sinks."""
        return self.moments.over(list(range(1, len(CLASSES))))

    @property
    def with_sinks(self) -> Moments:
        """(quantity,) of all tokens."""
        return self.moments.over(slice(0, len(CLASSES)))

    def index(self, key: str) -> int:
        """Place of a quantity; KeyError where there is none."""
        for i, quantity in enumerate(self.quantities):
            if quantity.key == key:
                return i
        raise KeyError(key)

    def has(self, key: str) -> bool:
        return any(quantity.key == key for quantity in self.quantities)

    def mean(self, key: str) -> float:
        return float(self.counted.means[self.index(key)])

    def quantile(self, key: str, level: float) -> float:
        """One of LEVELS."""
        return float(self.quantiles[LEVELS.index(level), self.index(key)])

    def half_width(self, key: str) -> float:
        return float(self.half_widths[self.index(key)])

    def perplexity(self, lane: Literal["base", "npt"]) -> float:
        """exp of the mean NLL, sinks left out; NaN where nothing was predicted."""
        key = f"nll_{lane}"
        return math.exp(self.mean(key)) if self.has(key) else math.nan

    def group(self, way: str) -> Moments:
        """(group, quantity) of one of GROUPS."""
        names = list(GROUPS)
        start = sum(len(GROUPS[name]) for name in names[: names.index(way)])
        rows = slice(start, start + len(GROUPS[way]))
        return Moments(self.moments.n[rows], self.moments.mean[rows], self.moments.squares[rows])

    def rows(self) -> Iterator[dict]:
        """One dict a quantity."""
        counted, everything = self.counted, self.with_sinks
        for i, quantity in enumerate(self.quantities):
            yield {
                "layer": quantity.layer,
                "number": quantity.column,
                "n": int(counted.n[i]),
                "mean": float(counted.means[i]),
                "half_width": float(self.half_widths[i]),
                "sd": float(counted.sds[i]),
                "low": float(self.lows[i]),
                **{f"q{100 * level:g}": float(self.quantiles[j, i]) for j, level in enumerate(LEVELS)},
                "high": float(self.highs[i]),
                "mean_with_sinks": float(everything.means[i]),
            }

    def group_rows(self) -> Iterator[dict]:
        """One dict a quantity and group that has tokens."""
        for way, names in GROUPS.items():
            moments = self.group(way)
            for i, quantity in enumerate(self.quantities):
                for j, name in enumerate(names):
                    if moments.n[j, i]:
                        yield {
                            "by": way,
                            "group": name,
                            "layer": quantity.layer,
                            "number": quantity.column,
                            "n": int(moments.n[j, i]),
                            "mean": float(moments.means[j, i]),
                            "sd": float(moments.sds[j, i]),
                        }

    def worst_rows(self) -> Iterator[dict]:
        """One dict a quantity and worst token."""
        for quantity, tokens in zip(self.quantities, self.worst, strict=True):
            for place, token in enumerate(tokens):
                context = self.contexts[token.window]
                before = context.glyphs[max(0, token.position - 24) : token.position]
                yield {
                    "layer": quantity.layer,
                    "number": quantity.column,
                    "place": place,
                    "value": token.value,
                    "token": context.glyphs[token.position],
                    "position": token.position,
                    "window": token.window,
                    "source": context.source,
                    "before": "".join(before),
                }

    def to_frame(self):
        """pandas.DataFrame with a row for every number that was measured (metric, layer)."""
        import pandas

        return pandas.DataFrame(list(self.rows()))


@dataclass(frozen=True, kw_only=True)
class ScanDifference:
    """One number in two scans."""

    quantity: Quantity
    a: float
    """Mean of A, sinks left out."""
    b: float
    half_width: float
    """Half of the 95 % interval of b − a over texts; NaN of too few."""
    n_clusters: int
    """Texts, or blocks of long ones, behind it."""

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def verdict(self) -> Literal["higher", "lower", "cannot tell", "the same"]:
        """What the interval says of B against A."""
        if self.difference == self.half_width == 0:
            return "the same"
        if not math.isfinite(self.half_width) or abs(self.difference) <= self.half_width:
            return "cannot tell"
        return "higher" if self.difference > 0 else "lower"


@dataclass(frozen=True, kw_only=True)
class ScanComparison:
    """Two scans, number by number."""

    a: ScanResult
    b: ScanResult
    is_paired: bool
    """Whether the differences were taken text by text, because both read the same tokens."""
    differences: tuple[ScanDifference, ...]
    """Of the numbers that both have."""

    def of(self, key: str) -> ScanDifference:
        """One number; KeyError where not both have it."""
        for each in self.differences:
            if each.quantity.key == key:
                return each
        raise KeyError(key)

    def rows(self) -> Iterator[dict]:
        """One dict a number."""
        for each in self.differences:
            yield {
                "layer": each.quantity.layer,
                "number": each.quantity.column,
                "A": each.a,
                "B": each.b,
                "B − A": each.difference,
                "half_width": each.half_width,
                "texts": each.n_clusters,
                "verdict": each.verdict,
            }

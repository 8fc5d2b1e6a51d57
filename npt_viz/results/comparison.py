"""Two inspections side by side: tokens aligned by a diff, and of every number A, B and B − A."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.question import Mode, Positions
from npt_viz.results.estimate import Spread, spread_of
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Inspection, Metric, Token
from npt_viz.results.shown import Shown
from npt_viz.results.words import counted

COMPARED: dict[str, Metric] = {
    **METRICS,
    **TOKEN_METRICS,
    "nll_npt": Metric(
        "NLL of the NPT model",
        "nats",
        "surprise of the NPT model at the token that really follows",
        None,
        False,
        source="docs/mathematics.md §9",
    ),
    "nll_base": Metric(
        "NLL of the base",
        "nats",
        "surprise of the base model, or of base + ledger, at the token that really follows",
        None,
        False,
        source="docs/mathematics.md §9",
    ),
}
"""What is compared: numbers of a layer's token, and of the whole model's."""

ROUNDING = 1e-5
"""Two float32 runs of one model differ by less than this share of a number: a difference below it is none."""


class Pair(NamedTuple):
    """A column of the alignment: the same token in both prompts, or one that only one of them has."""

    a: int | None
    """Its position in A; None where it is inserted in B."""
    b: int | None
    """Its position in B; None where it is deleted."""

    @property
    def kind(self) -> str:
        """same, deleted or inserted."""
        return "inserted" if self.a is None else "deleted" if self.b is None else "same"


def aligned(a: Sequence[int], b: Sequence[int]) -> tuple[Pair, ...]:
    """Alignment of two prompts by difflib on their token ids; where they differ, A's tokens come before B's."""
    if list(a) == list(b):
        return tuple(Pair(i, i) for i in range(len(a)))
    # autojunk: a token that is frequent in a long text is as good as any other.
    matcher = SequenceMatcher(None, list(a), list(b), autojunk=False)
    pairs: list[Pair] = []
    for what, a0, a1, b0, b1 in matcher.get_opcodes():
        if what == "equal":
            pairs += map(Pair, range(a0, a1), range(b0, b1))
        else:
            pairs += [Pair(i, None) for i in range(a0, a1)]
            pairs += [Pair(None, j) for j in range(b0, b1)]
    return tuple(pairs)


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one of the two is, in plain values."""

    model: str
    checkpoint: str
    layer: int
    """The layer that is looked at."""
    layers: tuple[int, ...]
    """Layers that run as NPT."""
    mode: Mode
    positions: Positions
    n_edits: int
    """Permanent updates beneath."""
    prompt: str

    @property
    def setting(self) -> str:
        """What ran, and how, in a line."""
        edits = f", {counted(self.n_edits, 'permanent update')} beneath" if self.n_edits else ""
        return (
            f"{self.checkpoint} on {self.model}, layer {self.layer} of NPT layers {', '.join(map(str, self.layers))}, "
            f"{self.mode}, positions as {self.positions}{edits}"
        )

    @property
    def words(self) -> str:
        """All of it in a line."""
        return f"{self.setting}, “{self.prompt}”"


class Columns(NamedTuple):
    """One number along the alignment, NaN where a side has none; each (pair,)."""

    a: np.ndarray
    b: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """B − A."""
        return self.b - self.a


class Difference(NamedTuple):
    """A token's difference, in the list of the largest."""

    column: int
    """Column of the alignment."""
    pair: Pair
    token: Token
    a: float
    b: float
    stands_out: bool
    """Whether it lies further from the median difference than the spread."""

    @property
    def difference(self) -> float:
        """B − A."""
        return self.b - self.a


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown):
    """Two inspections, A and B, aligned."""

    a: Inspection
    b: Inspection
    layers: tuple[int, int]
    """The layer that is looked at, in A and in B."""
    pairs: tuple[Pair, ...]
    """Columns of the alignment, in the order of both prompts."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """What A and B are."""
        return _side(self.a, self.layers[0]), _side(self.b, self.layers[1])

    @property
    def differs(self) -> tuple[str, ...]:
        """Names of what A and B are not the same in, as in Side."""
        a, b = self.sides
        return tuple(name for name in vars(a) if getattr(a, name) != getattr(b, name))

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """(layer in A, layer in B), lowest first: the layers both have; where two layers are compared, these alone."""
        if self.layers[0] != self.layers[1]:
            return (self.layers,)
        return tuple((layer, layer) for layer in sorted(set(self.a.layers) & set(self.b.layers)))

    @property
    def same(self) -> np.ndarray:
        """(pair,) bool: tokens that both prompts have."""
        return np.array([pair.kind == "same" for pair in self.pairs], bool)

    @property
    def is_sink(self) -> np.ndarray:
        """(pair,) bool: attention sinks of either run."""
        sinks = (self._along(run.is_sink.astype(float), i) for i, run in enumerate((self.a, self.b)))
        return np.any([np.nan_to_num(each) > 0 for each in sinks], axis=0)

    def counts(self, *, with_sinks: bool = False) -> np.ndarray:
        """(pair,) bool: tokens that both have and that count; sinks count where there is nothing else."""
        kept = self.same & ~self.is_sink
        return self.same if with_sinks or not kept.any() else kept

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The token of every column."""
        return tuple(map(self._token, self.pairs))

    def _token(self, pair: Pair) -> Token:
        if pair.a is not None:
            return self.a.pieces[pair.a]
        assert pair.b is not None, "a column has a token"
        return self.b.pieces[pair.b]

    def columns(self, metric: str, layers: tuple[int, int] | None = None) -> Columns:
        """One of COMPARED along the alignment. layers: (in A, in B), those looked at by default.

        Raises NptVizError for another name.
        """
        check_metric(metric)
        chosen = layers or self.layers
        return Columns(
            *(
                self._along(_values(run, layer, metric), i)
                for i, (run, layer) in enumerate(zip((self.a, self.b), chosen, strict=True))
            )
        )

    def differences(self, metric: str) -> np.ndarray:
        """(row, pair) B − A of every row; a single row for a number of the whole model."""
        check_metric(metric)
        rows = self.rows if metric in METRICS else (self.layers,)
        return np.stack([self.columns(metric, row).difference for row in rows])

    def spread(self, metric: str, *, with_sinks: bool = False) -> Spread:
        """Robust spread of B − A over the tokens that count: what a single difference is held against."""
        columns, counts = self.columns(metric), self.counts(with_sinks=with_sinks)
        return spread_of(columns.difference[counts], rounding=self.rounding(metric, with_sinks=with_sinks))

    def rounding(self, metric: str, *, with_sinks: bool = False) -> float:
        """What two runs of one model can differ by: ROUNDING of the median size."""
        sizes = np.abs(np.concatenate(self.columns(metric)))[np.tile(self.counts(with_sinks=with_sinks), 2)]
        sizes = sizes[np.isfinite(sizes)]
        return ROUNDING * float(np.median(sizes)) if len(sizes) else 0.0

    def largest(self, metric: str, most: int | None = None, *, with_sinks: bool = False) -> list[Difference]:
        """Differences of the tokens that count, those that stand out first, then by their size."""
        columns, counts = self.columns(metric), self.counts(with_sinks=with_sinks)
        out = self.spread(metric, with_sinks=with_sinks).stand_out(columns.difference)
        kept = np.flatnonzero(counts & np.isfinite(columns.difference))
        order = sorted(kept.tolist(), key=lambda i: (not out[i], -abs(columns.difference[i]), i))
        tokens = self.tokens
        return [
            Difference(i, self.pairs[i], tokens[i], float(columns.a[i]), float(columns.b[i]), bool(out[i]))
            for i in order[:most]
        ]

    @property
    def other_choices(self) -> np.ndarray | None:
        """(pair,) bool: tokens of both after which the NPT models' most probable next token is another; None without logits."""
        if self.a.npt_top is None or self.b.npt_top is None:
            return None
        first = [
            self._along(top.ids[:, 0].astype(float), i)
            for i, top in enumerate((self.a.npt_top, self.b.npt_top))
        ]
        return self.same & (first[0] != first[1])

    def to_frame(self):
        """pandas: one row a pair of layers and a token; A, B and B − A of every number."""
        import pandas as pd

        return pd.DataFrame(list(self._rows()))

    def _rows(self) -> Iterator[dict]:
        for in_a, in_b in self.rows:
            columns = {name: self.columns(name, (in_a, in_b)) for name in self.metrics}
            for i, (pair, token) in enumerate(zip(self.pairs, self.tokens, strict=True)):
                row = {
                    "layer_a": in_a, "layer_b": in_b, "token_a": pair.a, "token_b": pair.b, "kind": pair.kind,
                    "glyph": token.glyph, "id": token.id, "is_sink": bool(self.is_sink[i]),
                }  # fmt: skip
                for name, (a, b) in columns.items():
                    row |= {f"{name}_a": float(a[i]), f"{name}_b": float(b[i])}
                    row[f"{name}_difference"] = float(b[i] - a[i])
                yield row

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of COMPARED that both runs have: all, or those of a layer where a run has no predictions."""
        return tuple(COMPARED if self.a.kl is not None and self.b.kl is not None else METRICS)

    def _along(self, values: np.ndarray, side: int) -> np.ndarray:
        """(pair,) of one side's (token,) values; NaN where it has no token."""
        positions = [pair[side] for pair in self.pairs]
        along = np.full(len(positions), np.nan)
        has = np.array([position is not None for position in positions], bool)
        along[has] = np.asarray(values, float)[[each for each in positions if each is not None]]
        return along


def check_metric(metric: str) -> None:
    """Raises NptVizError for a name that COMPARED does not have."""
    if not isinstance(metric, str) or metric not in COMPARED:
        raise NptVizError(f"metric {metric!r} is none that is compared; choose one of {', '.join(COMPARED)}")


@checked
def compare(a: Inspection, b: Inspection, *, layer: int | tuple[int, int] | None = None) -> Comparison:
    """Compare two inspections: of two checkpoints, layers, prompts, modes, positions, sets of layers, or edits.

    layer: the one that is looked at, or one of A and one of B; the highest that both have by default, else of each.
    Raises NptVizError for a layer that does not run as NPT, and for runs of base models of another size or tokenizer.
    """
    _check_bases(a, b)
    if layer is None:
        both = set(a.layers) & set(b.layers)
        chosen = (max(both), max(both)) if both else (max(a.layers), max(b.layers))
    else:
        chosen = layer if isinstance(layer, tuple) else (layer, layer)
    for name, run, wanted in zip("AB", (a, b), chosen, strict=True):
        if wanted not in run.layers:
            raise NptVizError(
                f"layer {wanted} does not run as NPT in {name}, whose NPT layers are "
                f"{', '.join(map(str, sorted(run.layers)))}; choose one of them"
            )
    return Comparison(a=a, b=b, layers=chosen, pairs=aligned(a.token_ids, b.token_ids))


def _check_bases(a: Inspection, b: Inspection) -> None:
    of_a = {piece.id: piece.raw for piece in a.pieces}
    other = next((piece for piece in b.pieces if of_a.get(piece.id, piece.raw) != piece.raw), None)
    if other is not None:
        raise NptVizError(
            f"A ran on {a.model} and B on {b.model}, whose tokenizers differ: token {other.id} is {of_a[other.id]} in A and "
            f"{other.raw} in B; compare runs of one base model"
        )
    if a.base and b.base and a.base != b.base:
        raise NptVizError(
            f"A ran on {a.model} ({a.base}) and B on {b.model} ({b.base}): a layer or token of one is none of the other; "
            "compare runs of one base model"
        )


def _side(run: Inspection, layer: int) -> Side:
    return Side(
        model=run.model,
        checkpoint=run.checkpoint,
        layer=layer,
        layers=tuple(sorted(run.layers)),
        mode=run.mode,
        positions=run.positions,
        n_edits=run.n_edits,
        prompt=run.prompt,
    )


def _values(run: Inspection, layer: int, metric: str) -> np.ndarray:
    """(token,) one of COMPARED."""
    if metric in METRICS:
        return run.layers[layer].values(metric)
    values = getattr(run, metric)
    return np.full(len(run.pieces), np.nan) if values is None else values

"""Permanent weight updates: factors of ΔW, never a dense matrix, with the origin of each.

W of one projection becomes W + alpha * sum_i v_b,i v_a,i^T. Sum, multiple and negative act on ΔW: the factors
are put side by side and only v_b is scaled, because (-v_b)(-v_a)^T is the same matrix.
"""

import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from npt_viz.adapter import TARGETS, Target
from npt_viz.errors import NptVizError
from npt_viz.shapes import Float

Number = int | float

PROJECTIONS: dict[Target, str] = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


class Place(NamedTuple):
    """Weight matrix that an update changes: layer and projection."""

    layer: int
    target: Target

    @property
    def parameter(self) -> str:
        """Name in a Hugging Face state dict."""
        return f"model.layers.{self.layer}.mlp.{PROJECTIONS[self.target]}.weight"


@dataclass(frozen=True, eq=False)
class Factors:
    """ΔW = sum_i v_b,i v_a,i^T of one projection, in float32."""

    v_a: Float[np.ndarray, "factor inp"]
    v_b: Float[np.ndarray, "factor out"]

    def __post_init__(self):
        if self.v_a.ndim != 2 or self.v_b.ndim != 2 or len(self.v_a) != len(self.v_b):
            raise ValueError(f"factors of {self.v_a.shape} and {self.v_b.shape} do not pair")
        object.__setattr__(self, "v_a", np.ascontiguousarray(self.v_a, dtype=np.float32))
        object.__setattr__(self, "v_b", np.ascontiguousarray(self.v_b, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.v_a)

    def scaled(self, factor: Number) -> "Factors":
        """factor * ΔW."""
        return Factors(self.v_a, factor * self.v_b)

    def norm(self) -> float:
        """‖ΔW‖_F, from the two Gram matrices."""
        a, b = self.v_a.astype(np.float64), self.v_b.astype(np.float64)
        return math.sqrt(max(0.0, float(((a @ a.T) * (b @ b.T)).sum())))

    def cosine(self, other: "Factors") -> float:
        """⟨ΔW, ΔW'⟩ / (‖ΔW‖ ‖ΔW'‖): the direction of two weight changes; NaN where one of them is zero."""
        a, b, a2, b2 = (f.astype(np.float64) for f in (self.v_a, self.v_b, other.v_a, other.v_b))
        size = self.norm() * other.norm()
        return float(((a @ a2.T) * (b @ b2.T)).sum()) / size if size else math.nan

    def singular_values(self) -> np.ndarray:
        """Singular values of ΔW, descending; the zeros beyond min(factor, inp, out) are left out."""
        core = self._core()[1]
        return np.linalg.svd(core, compute_uv=False)

    def thinned(self) -> "Factors":
        """Same ΔW with as few factors as its rank allows; exact up to float32 rounding."""
        if len(self) <= 1:
            return self
        q_b, core, q_a = self._core()
        left, sizes, right = np.linalg.svd(core)
        kept = sizes > sizes[0] * max(core.shape) * np.finfo(np.float32).eps
        n = max(1, int(kept.sum()))
        return Factors((right[:n] @ q_a.T), (q_b @ (left[:, :n] * sizes[:n])).T)

    def is_finite(self) -> bool:
        """Whether no factor is NaN or infinite."""
        return bool(np.isfinite(self.v_a).all() and np.isfinite(self.v_b).all())

    def _core(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(Q_b, R_b R_a^T, Q_a) in float64 with ΔW = Q_b R_b R_a^T Q_a^T."""
        q_a, r_a = np.linalg.qr(self.v_a.T.astype(np.float64))
        q_b, r_b = np.linalg.qr(self.v_b.T.astype(np.float64))
        return q_b, r_b @ r_a.T, q_a


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Source of one part of an update: rule, text, layers, tokens, checkpoint; plain values, as a recipe holds them."""

    rule: str
    """npt, exact, minimum_norm or whitened"""
    prompt: str
    """The source text."""
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    """Positions in the source whose ΔW were taken."""
    glyphs: tuple[str, ...]
    """The same tokens as people see them."""
    checkpoint: str
    checkpoint_fingerprint: str
    combine: str = "sum"
    """sum or mean over the tokens"""
    components: tuple[int, ...] | None = None
    """Which components of each token's modulation; None is all of them."""
    positions: str = "deployed"
    mode: str = "local"
    weight: float = 1.0
    """What this part was multiplied with in the whole update."""
    details: tuple[str, ...] = ()
    """What else decided the numbers, in sentences."""

    def __str__(self) -> str:
        where = f"layer{'s' if len(self.layers) > 1 else ''} {', '.join(map(str, self.layers))}"
        shown = " ".join(
            f"{glyph!s} #{token}" for glyph, token in zip(self.glyphs[:4], self.tokens, strict=False)
        )
        more = f" and {len(self.tokens) - 4} more" if len(self.tokens) > 4 else ""
        return f"{self.rule.replace('_', ' ')}, {where}, token {shown}{more}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """alpha * ΔW of some projections of one base model."""

    factors: Mapping[Place, Factors]
    alpha: Number = 1.0
    base: Mapping = field(default_factory=dict)
    """BaseModel.fingerprint of the layers it belongs to."""
    origins: tuple[Origin, ...] = ()

    def __post_init__(self):
        check_alpha(self.alpha)
        if not self.factors:
            raise NptVizError("the update changes no weights; choose a layer with a modulation")
        order = sorted(self.factors, key=lambda place: (place.layer, TARGETS.index(place.target)))
        object.__setattr__(self, "factors", {place: self.factors[place] for place in order})
        for place, factors in self.factors.items():
            if not factors.is_finite():
                raise NptVizError(
                    f"the update of {place.parameter} is not finite; choose another token or an earlier checkpoint"
                )
            with np.errstate(over="ignore"):
                written = factors.scaled(self.alpha)
            if not written.is_finite():
                raise NptVizError(
                    f"alpha {self.alpha:g} makes the update of {place.parameter} overflow float32; choose a smaller one"
                )

    @property
    def places(self) -> tuple[Place, ...]:
        """Weight matrices that it changes."""
        return tuple(self.factors)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that it changes."""
        return tuple(dict.fromkeys(place.layer for place in self.factors))

    def written(self, place: Place) -> Factors:
        """alpha * ΔW of one projection."""
        return self.factors[place].scaled(self.alpha)

    def norms(self) -> dict[Place, float]:
        """‖alpha ΔW‖_F of every projection."""
        return {place: abs(self.alpha) * factors.norm() for place, factors in self.factors.items()}

    def norm(self) -> float:
        """‖alpha ΔW‖_F over all projections together."""
        return math.sqrt(sum(norm**2 for norm in self.norms().values()))

    def at(self, alpha: Number) -> "Update":
        """Same ΔW with another alpha."""
        return replace(self, alpha=float(alpha))

    def digest(self) -> str:
        """Hash of alpha and the factors, sixteen hex digits."""
        content = hashlib.sha256(float(self.alpha).hex().encode())
        for place, factors in self.factors.items():
            content.update(f"{place.parameter} {factors.v_a.shape} {factors.v_b.shape}".encode())
            content.update(factors.v_a.tobytes() + factors.v_b.tobytes())
        return content.hexdigest()[:16]

    def __mul__(self, factor: Number) -> "Update":
        return self.at(self.alpha * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "Update":
        return self * -1.0

    def __add__(self, other: "Update") -> "Update":
        return sum_of([self, other])

    def __sub__(self, other: "Update") -> "Update":
        return self + -other


Applied = TypeVar("Applied", covariant=True)


@runtime_checkable
class UpdateStore(Protocol[Applied]):
    """Interface of a ledger: earlier updates, and adding one."""

    @property
    def updates(self) -> Sequence[Update]:
        """Earlier updates, in the order in which they were applied."""
        ...

    def apply(self, update: Update) -> Applied:
        """Add an update and return its entry."""
        ...


def sum_of(updates: Sequence[Update]) -> Update:
    """Sum of updates on ΔW; alpha of the sum is 1."""
    if not updates:
        raise NptVizError("there is no update to add; give at least one")
    return Update(
        factors=accumulated(updates),
        base=merged_base([update.base for update in updates]),
        origins=tuple(_weighted(updates)),
    )


def accumulated(updates: Iterable[Update]) -> dict[Place, Factors]:
    """Sum of alpha * ΔW over updates, for each projection: factors side by side."""
    collected: dict[Place, list[Factors]] = {}
    for update in updates:
        for place in update.places:
            collected.setdefault(place, []).append(update.written(place))
    return {
        place: Factors(np.concatenate([f.v_a for f in parts]), np.concatenate([f.v_b for f in parts]))
        for place, parts in collected.items()
    }


def merged_base(bases: Sequence[Mapping]) -> dict:
    """Joint base fingerprint of several updates; NptVizError where the base models differ."""
    merged: dict = {"config": None, "layers": {}}
    for base in bases:
        if not base:
            continue
        known = merged["layers"]
        differs = merged["config"] not in (None, base["config"]) or any(
            known.get(layer, digest) != digest for layer, digest in base["layers"].items()
        )
        if differs:
            raise NptVizError(
                "the updates belong to different base models; combine only updates made on one base model"
            )
        merged = {"config": base["config"], "layers": {**known, **base["layers"]}}
    return merged if merged["config"] else {}


def check_alpha(alpha: object) -> None:
    """Raise NptVizError unless alpha is a finite number."""
    if (
        not isinstance(alpha, int | float | np.floating)
        or isinstance(alpha, bool)
        or not abs(alpha) <= sys.float_info.max
    ):
        raise NptVizError(f"alpha is {alpha!r}; give a finite number, 1 writes the modulation as it is")


def _weighted(updates: Sequence[Update]) -> Iterator[Origin]:
    for update in updates:
        for origin in update.origins:
            yield replace(origin, weight=origin.weight * update.alpha)

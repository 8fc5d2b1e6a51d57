"""What an injection history recorded of an edit: sizes, and through the relative weight change its direction.

The file has no directions. But ‖ΔW‖ and ‖ΔW‖ / ‖W + ΔW‖ give ‖W + ΔW‖, and with the known ‖W‖ the cosine between ΔW
and W: ‖W + ΔW‖² = ‖W‖² + 2 ‖W‖ ‖ΔW‖ cos + ‖ΔW‖².
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from npt_viz.adapter import Target
from npt_viz.editing.updates import Factors, Place, Update, accumulated
from npt_viz.model.base import BaseModel, weight_of

FLOAT32, FLOAT16, BFLOAT16 = 1e-3, 1e-2, 5e-2
"""Relative difference up to which two sizes count as the same: of a float32 run, of a float16 one, of a bfloat16 one.

One rounding is 6e-8, 5e-4 or 4e-3; a modulation is a product of two vectors after many layers of them.
"""

NORM_ERROR = {FLOAT32: 1e-6, FLOAT16: 5e-4, BFLOAT16: 4e-3}
"""Relative error of a recorded norm: the sum over a large matrix, then its rounding."""

KEYS: dict[Target, dict[str, tuple[str, ...]]] = {
    "gate": {
        "‖ΔW‖": ("gate_delta_norm", "delta_norm"),
        "‖v_a‖": ("v_a_gate_norm", "v_a_norm"),
        "‖v_b‖": ("v_b_gate_norm", "v_b_norm"),
        "change": ("gate_weight_change_ratio", "weight_change_ratio"),
    },
    "up": {
        "‖ΔW‖": ("up_delta_norm",),
        "‖v_a‖": ("v_a_up_norm",),
        "‖v_b‖": ("v_b_up_norm",),
        "change": ("up_weight_change_ratio",),
    },
}
"""Projection -> figure -> its keys; `change` is ‖ΔW‖ / ‖W + ΔW‖."""


class Figure(NamedTuple):
    """One recorded size."""

    place: Place
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.place.target}"


@dataclass(frozen=True)
class Recorded:
    """The sizes that an entry recorded."""

    figures: Mapping[Figure, float]
    projections: tuple[str, ...]
    """Those that the entry says it changed."""

    @classmethod
    def of(cls, entry: Mapping[str, Any], update: Update) -> "Recorded":
        """The figures of an entry for the projections that an update changes."""
        figures = {}
        for place in update.places:
            for name, keys in KEYS.get(place.target, {}).items():
                value = next((entry[key] for key in keys if key in entry), None)
                # Zero is what the tool writes where it did not look.
                if not isinstance(value, int | float) or isinstance(value, bool):
                    continue
                if 0 < value <= sys.float_info.max:
                    figures[Figure(place, name)] = float(value)
        named = entry.get("projections_modified") or ["gate"]
        return cls(figures, tuple(map(str, named)) if isinstance(named, list) else (str(named),))

    def differences(self, update: Update, tolerance: float) -> list[str]:
        """A clause for every recorded size that the update does not have."""
        replayed = {figure: size for figure, size in _sizes(update).items() if figure in self.figures}
        return [
            f"{figure} was {self.figures[figure]:.4g} and is {size:.4g}"
            for figure, size in replayed.items()
            if not math.isclose(self.figures[figure], size, rel_tol=tolerance)
        ]

    def place_notes(self, update: Update) -> Iterator[str]:
        """A sentence where other projections were changed than the checkpoint has."""
        targets = [place.target for place in update.places]
        if set(self.projections) != set(targets):
            yield (
                f"it recorded an edit of {' and '.join(self.projections)}, the checkpoint edits "
                f"{' and '.join(targets)}; it may come from another checkpoint"
            )

    def causes(self, model: BaseModel, update: Update, tolerance: float) -> Iterator[str]:
        """Sentences on why the sizes differ, as far as the other figures tell."""
        sizes = _sizes(update)
        ratios = {name: [] for name in ("‖ΔW‖", "‖v_a‖", "‖v_b‖")}
        for figure, size in sizes.items():
            if figure in self.figures and size > 0:
                ratios[figure.name].append(self.figures[figure] / size)
        vectors = ratios["‖v_a‖"] + ratios["‖v_b‖"]
        if vectors and ratios["‖ΔW‖"] and all(math.isclose(r, 1, rel_tol=tolerance) for r in vectors):
            factor = ratios["‖ΔW‖"][0]
            if all(math.isclose(factor, r, rel_tol=tolerance) for r in ratios["‖ΔW‖"]):
                yield (
                    f"v_a and v_b are those of the record, so the strength differs: written was {factor:.4g} times "
                    f"alpha {update.alpha:g}"
                )
                return
        for place in update.places:
            after, delta = self._size_after(place), self.figures.get(Figure(place, "‖ΔW‖"))
            if after is None or delta is None:
                continue
            size = _size(model, place)
            if abs(after - size) > delta * (1 + tolerance) + size * NORM_ERROR[tolerance]:
                yield (
                    f"the {place.target} weight itself was of size {after:.5g} and is {size:.5g} in {model.name}: "
                    "another base model, or one edited before; open the base that was injected into"
                )
                return
        yield (
            "the weights that were edited are of the recorded size, so the adapter, the text or its tokens differ: "
            "check that this is the checkpoint and the tokenizer of the record"
            if any(self._size_after(place) is not None for place in update.places)
            else "the file has no more figures to tell the cause: another checkpoint, base model, tokenizer or precision"
        )

    def says_added(self, model: BaseModel, earlier: Sequence[Update], update: Update) -> bool | None:
        """Whether W + ΔW was recorded with the earlier edits in W (True), without (False); None where it cannot be told."""
        verdicts = set()
        for place in update.places:
            after = self._size_after(place)
            if after is None:
                continue
            added, alone = (
                abs(_size(model, place, edits) - after) for edits in ([*earlier, update], [update])
            )
            resolution = after * NORM_ERROR[tolerance_of(self.figures.values(), model.dtype)]
            if abs(added - alone) > 4 * resolution and min(added, alone) < 0.2 * max(added, alone):
                verdicts.add(added < alone)
        return verdicts.pop() if len(verdicts) == 1 else None

    def direction_notes(self, model: BaseModel, earlier: Sequence[Update], update: Update) -> Iterator[str]:
        """A sentence for every projection whose ΔW has the recorded size and points elsewhere."""
        tolerance = tolerance_of(self.figures.values(), model.dtype)
        for place in update.places:
            after, delta = self._size_after(place), self.figures.get(Figure(place, "‖ΔW‖"))
            size = update.norms()[place]
            if after is None or delta is None or not math.isclose(delta, size, rel_tol=tolerance):
                continue
            before, replayed = _size(model, place, earlier), _size(model, place, [*earlier, update])
            recorded_cosine, cosine = (
                (whole**2 - before**2 - part**2) / (2 * before * part)
                for whole, part in ((after, delta), (replayed, size))
            )
            # An error of ‖W + ΔW‖ is one of the cosine, larger by ‖W‖ / ‖ΔW‖.
            unsure = 3 * NORM_ERROR[tolerance] * after**2 / (before * delta) + tolerance * delta / before
            if abs(recorded_cosine - cosine) > max(unsure, 10 * tolerance * abs(cosine)):
                yield (
                    f"ΔW of {place.target} has the recorded size and another direction: its cosine with the weight "
                    f"was {recorded_cosine:.4f} ± {unsure:.4f} and is {cosine:.4f}; another base model, or edits of "
                    "it that the file does not list"
                )

    def _size_after(self, place: Place) -> float | None:
        """‖W + ΔW‖, from the relative change."""
        delta, change = (self.figures.get(Figure(place, name)) for name in ("‖ΔW‖", "change"))
        return delta / change if delta is not None and change is not None else None


def tolerance_of(recorded: Iterable[float], dtype: torch.dtype) -> float:
    """Relative difference that precision explains: the coarser of the recorded run's and of this model's."""
    values = torch.tensor(list(recorded), dtype=torch.float64)
    exact = {
        size: bool((values.to(of).double() == values).all()) and len(values) > 1
        for of, size in ((torch.bfloat16, BFLOAT16), (torch.float16, FLOAT16))
    }
    run = next((size for size, fits in exact.items() if fits), FLOAT32)
    return max(run, {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}.get(dtype, FLOAT32))


def _sizes(update: Update) -> dict[Figure, float]:
    """The figures of an update, as the published tool counts them: a vector's norm summed over the components."""
    sizes = {}
    for place, factors in update.factors.items():
        sizes[Figure(place, "‖ΔW‖")] = update.norms()[place]
        for name, vectors in (("‖v_a‖", factors.v_a), ("‖v_b‖", factors.v_b)):
            sizes[Figure(place, name)] = float(sum(math.sqrt(float(v @ v)) for v in vectors.astype(float)))
    return sizes


def _size(model: BaseModel, place: Place, edits: Sequence[Update] = ()) -> float:
    """‖W + Σ ΔW‖_F, without forming a matrix."""
    weight = weight_of(getattr(model.parts(place.layer), place.target))
    squared = float(torch.linalg.vector_norm(weight, dtype=torch.float64)) ** 2
    factors: Factors | None = accumulated(edits).get(place)
    if factors is not None:
        v_a, v_b = (torch.from_numpy(v).to(weight) for v in (factors.v_a, factors.v_b))
        along = float(((v_a @ weight.T).double() * v_b.double()).sum())
        squared += 2 * along + factors.norm() ** 2
    return math.sqrt(max(0.0, squared))

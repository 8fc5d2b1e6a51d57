"""Results of a training: its steps, alarms and evaluations on held-out text."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How much of a text that is called held-out a checkpoint was trained on."""

    n_tokens: int
    n_seen: int | None
    """Tokens in windows that the training read; None where the checkpoint's recipe does not record its text."""

    @property
    def note(self) -> str:
        """What has to be said beside a figure on this text; nothing where no token was seen."""
        if self.n_seen is None:
            return "unknown whether this text was held out: the checkpoint's recipe does not record what it was trained on"
        if self.n_seen == 0:
            return ""
        return f"not held out: at least {self.n_seen:,} of {self.n_tokens:,} tokens were seen in training"


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One layer on held-out tokens, attention sinks left out of the medians.

    Each layer sees the stream it was trained on: the base's own, or the one that the NPT layers below it make.
    """

    layer: int
    recovered: float
    """Median of 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²: the share of the attention effect recovered. NaN where the
    attention path is standard: nothing was withheld."""
    relative_error: float
    """Median of ‖ŷ−target‖ / ‖target‖."""
    sink_recovered: float
    """The same share on the attention sinks alone; NaN where there are none."""
    scalar_mean: float
    """Of component 0 of the first target."""
    scalar_std: float
    n_tokens: int
    recovered_low: float = math.nan
    """Lower end of the 95 % interval of `recovered`; NaN where the tokens are too few for one, or it was not measured."""
    recovered_high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class TargetStep:
    """One target's modulation on the tokens of a step; NaN where the adapter has no such thing."""

    scalar_mean: float
    """Of s, over tokens and components."""
    scalar_variance: float
    """Of s over tokens, the mean over components: 0 where the scalar has collapsed to a constant."""
    v_a_norm: float
    """Mean over tokens and components of ‖v_a‖."""
    v_b_norm: float
    update_norm: float
    """Mean over tokens of ‖ΔW‖_F, all components together."""
    attention_similarity: float
    """Mean of cos(v_a, a). A gauge, not a verdict; NaN for the down target, whose v_a lives in d_ffn."""


@dataclass(frozen=True, kw_only=True)
class LayerStep:
    """One layer's part of a step."""

    terms: Mapping[str, float]
    """Loss term -> its raw value."""
    total: float
    """Weighted sum of the terms: what was minimised."""
    grad_norm: float
    """Of all adapter parameters, before clipping."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Loss term -> what it was multiplied with, stage and adaptive factor included."""
    grad_norms: Mapping[str, float] = field(default_factory=dict)
    """Loss term -> norm of its own gradient, unweighted."""
    cosines: np.ndarray | None = None
    """(term, term) cosine between the terms' gradients, in the order of `terms`; every few steps, else None."""
    targets: Mapping[str, TargetStep] = field(default_factory=dict)
    """gate, up, down -> what its modulation does."""

    @property
    def weighted(self) -> dict[str, float]:
        """Loss term -> its part of the total."""
        return {name: self.weights[name] * value for name, value in self.terms.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Loss term -> its share of the total, by size: terms may be negative."""
        sizes = {name: abs(value) for name, value in self.weighted.items()}
        total = sum(sizes.values())
        return {name: size / total if total else float("nan") for name, size in sizes.items()}


Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A warning that a rule raised in a training."""

    rule: str
    severity: Severity
    step: int
    layer: int
    sentence: str
    """What was seen, with its numbers, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step; layers train side by side and independently, unless end to end."""

    number: int
    """1 for the first."""
    learning_rate: float
    layers: Mapping[int, LayerStep]
    seconds: float
    """Since training began, capture left out."""
    heldout: Mapping[int, HeldOut] | None = None
    """Where this step was evaluated."""
    alarms: tuple[Alarm, ...] = ()
    """Raised at this step."""
    n_tokens: int = 0
    """In its batch; a curriculum lets fewer of them count."""

    @property
    def total(self) -> float:
        return float(np.mean([layer.total for layer in self.layers.values()]))

    def rows(self) -> Iterator[dict[str, float | int]]:
        """One flat row a layer, for a table or JSONL: `loss/direct`, `weighted/direct`, `gradient/direct`,
        `gate/scalar_variance`, `heldout/recovered`, …; cosines are `cosine/direct|kl`."""
        for layer, part in self.layers.items():
            row = {
                "step": self.number,
                "layer": layer,
                "seconds": self.seconds,
                "learning_rate": self.learning_rate,
                "total": part.total,
                "grad_norm": part.grad_norm,
                "n_tokens": self.n_tokens,
            }
            row |= {f"loss/{name}": value for name, value in part.terms.items()}
            row |= {f"weight/{name}": value for name, value in part.weights.items()}
            row |= {f"weighted/{name}": value for name, value in part.weighted.items()}
            row |= {f"share/{name}": value for name, value in part.shares.items()}
            row |= {f"gradient/{name}": value for name, value in part.grad_norms.items()}
            row |= {f"cosine/{pair}": value for pair, value in _pairs(part)}
            for target, measured in part.targets.items():
                row |= {f"{target}/{name}": value for name, value in asdict(measured).items()}
            if self.heldout and layer in self.heldout:
                evaluated = asdict(self.heldout[layer])
                del evaluated["layer"]
                row |= {f"heldout/{name}": value for name, value in evaluated.items()}
            yield row


def _pairs(part: LayerStep) -> Iterator[tuple[str, float]]:
    if part.cosines is None:
        return
    names = list(part.terms)
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            yield f"{first}|{names[j]}", float(part.cosines[i, j])


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One layer's numbers along the steps, for drawing and for comparing."""

    layer: int | None
    """None: of no layer in particular."""
    steps: np.ndarray
    columns: Mapping[str, np.ndarray]
    """Column of Step.rows -> its values at `steps`; NaN where it was not measured."""
    gaps: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Column -> the steps at which something was logged that is no finite number."""

    def measured(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) where this column was measured; empty where it never was."""
        values = self.columns.get(column, np.full(len(self.steps), np.nan))
        there = np.isfinite(values)
        return self.steps[there], values[there]

    def parts(self, prefix: str) -> list[str]:
        """What follows `prefix/` among the columns: the terms of `loss`, the pairs of `cosine`."""
        return [name.removeprefix(f"{prefix}/") for name in self.columns if name.startswith(f"{prefix}/")]


class History:
    """The steps of a training as they come; curves of it at any time."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        """As Step.rows gives them."""
        self.alarms: list[Alarm] = []
        self.last: Step | None = None

    def add(self, step: Step) -> None:
        self.rows += step.rows()
        self.alarms += step.alarms
        self.last = step

    @property
    def layers(self) -> list[int]:
        return sorted({row["layer"] for row in self.rows})

    def curves(self, layer: int, *, points: int = 400) -> Curves:
        """At most about `points` steps, evenly spread, with every evaluation and the cosines beside them."""
        rows = [row for row in list(self.rows) if row["layer"] == layer]
        stride = max(1, -(-len(rows) // points))
        kept = [
            row
            for i, row in enumerate(rows)
            if i % stride == 0 or i == len(rows) - 1 or "heldout/recovered" in row
        ]
        names = dict.fromkeys(name for row in kept for name in row)
        columns = {name: np.array([row.get(name, np.nan) for row in kept], float) for name in names}
        return Curves(layer=layer, steps=columns.pop("step", np.zeros(0)), columns=columns)

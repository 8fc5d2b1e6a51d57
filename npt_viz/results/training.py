"""What one training step did, and how well the result does on text it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One layer on held-out tokens, local evaluation; attention sinks left out of the medians."""

    layer: int
    recovered: float
    """Median of 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²: the share of the attention effect recovered."""
    relative_error: float
    """Median of ‖ŷ−target‖ / ‖target‖."""
    sink_recovered: float
    """The same share on the attention sinks alone; NaN where there are none."""
    scalar_mean: float
    """Of component 0 of the first target."""
    scalar_std: float
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class LayerStep:
    """One layer's part of a step."""

    terms: Mapping[str, float]
    """Loss term -> its raw value."""
    total: float
    """Weighted sum of the terms: what was minimised."""
    grad_norm: float
    """Of all adapter parameters, before clipping."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step; layers train side by side and independently."""

    number: int
    """1 for the first."""
    learning_rate: float
    layers: Mapping[int, LayerStep]
    seconds: float
    """Since training began, capture left out."""
    heldout: Mapping[int, HeldOut] | None = None
    """Where this step was evaluated."""

    @property
    def total(self) -> float:
        return float(np.mean([layer.total for layer in self.layers.values()]))

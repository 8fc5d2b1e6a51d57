"""What the rules judge: numbers of one layer and of the whole NPT model. NaN where a number does not exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from npt_viz.results.directions import Verdict
from npt_viz.results.load_report import LayerReport, LoadReport
from npt_viz.results.reconstruction import ClassFloor


class Opposites(NamedTuple):
    """Tokens whose attention outputs point against each other."""

    share: float
    """Of the tokens that have such a partner."""
    needed: float
    """Mean cosine of the changes that the two tokens of a pair need."""
    given: float
    """Mean cosine of the changes that they get."""
    recovered: float
    """Median share recovered of these tokens."""


class Sinks(NamedTuple):
    """What the attention sinks do to a mean over tokens."""

    weight: float
    """Their share of Σ‖MLP(z) − target‖²: what they weigh in a plain mean squared error"""
    pooled: float
    """1 − Σ‖ŷ−target‖² / Σ‖MLP(z)−target‖² over all tokens: what that mean says is recovered"""
    recovered: float
    """The same over the sinks alone"""


class Predicted(NamedTuple):
    """What some NPT layers do to the prediction, beside the same layers with their modulation off."""

    layers: tuple[int, ...]
    median_kl: float
    median_kl_off: float
    mean_kl: float
    mean_kl_off: float
    perplexity_base: float
    perplexity: float
    perplexity_off: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class LayerEvidence:
    """One layer, local: fed the base model's own h and a. Medians are over tokens that are no attention sinks."""

    report: LayerReport
    """What the file holds."""
    n_tokens: int
    """Tokens behind the medians."""
    reconstructs: str
    """a + MLP(z_C), or MLP(z_C)"""
    recovered: float
    """Median of 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖², deployed positions"""
    recovered_without_rope: float
    """The same in trained positions."""
    recovered_other: float
    """The same against the target of the other reading: MLP(z_C) for a + MLP(z_C), and the reverse"""
    recovered_by_factor: Mapping[float, float]
    """Factor -> the same with what the modulation adds multiplied by it."""
    largest_change: float
    """Largest ‖ŷ − MLP(z)‖ / ‖MLP(z)‖ over all tokens."""
    verdicts: Mapping[str, tuple[Verdict, ...]]
    """Target -> the verdicts of analysis.collapse."""
    opposites: Opposites
    sinks: Sinks
    floor: ClassFloor | None = None
    """Only where it was asked for."""

    @property
    def layer(self) -> int:
        return self.report.layer

    @property
    def targets(self) -> str:
        return "+".join(self.report.targets)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was measured."""

    load: LoadReport
    layers: tuple[LayerEvidence, ...]
    """Those that can run."""
    predicted: tuple[Predicted, ...] = field(default=())
    """Of all layers together, and of each alone where that was run."""

    def of(self, layer: int) -> LayerEvidence:
        return next(found for found in self.layers if found.layer == layer)

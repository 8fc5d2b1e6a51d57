"""What the rules judge: numbers of one layer and of the whole NPT model. NaN where a number does not exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from npt_viz.results.directions import Verdict
from npt_viz.results.estimate import Estimate
from npt_viz.results.load_report import LayerReport, LoadReport
from npt_viz.results.probe import LayerProbe
from npt_viz.results.reconstruction import ClassFloor


class Opposites(NamedTuple):
    """Tokens whose attention outputs point against each other."""

    n: int
    """Tokens that have such a partner."""
    of: int
    """Tokens that were compared."""
    share: float
    """Of these, those that have one."""
    needed: float
    """Mean cosine of the changes that the two tokens of a pair need."""
    given: float
    """Mean cosine of the changes that they get."""
    recovered: Estimate
    """Median share recovered of these tokens."""


class Sinks(NamedTuple):
    """What the attention sinks do to a mean over tokens."""

    n: int
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
    """One layer, local: fed the base model's own h and a in deployed positions. Sinks are left out of medians."""

    report: LayerReport
    """What the file holds."""
    reconstructs: str
    """a + MLP(z_C), or MLP(z_C)"""
    probe: LayerProbe
    """What the adapter fits: as it is, or used otherwise."""
    n_tokens: int
    """Tokens that are no sinks."""
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
    def where(self) -> str:
        """n, text, mode and positions of a number, in words."""
        return f"{self.n_tokens:,} tokens of {self.probe.texts}, sinks left out; local, positions as deployed"

    @property
    def tokens(self) -> str:
        """All tokens, the sinks among them, in words."""
        return f"{self.n_tokens + self.sinks.n:,} tokens of {self.probe.texts}"

    @property
    def recovered(self) -> Estimate:
        """Median of 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖² over the tokens, with its interval."""
        return self.probe.as_it_is.recovered

    @property
    def numbers(self) -> dict[str, float]:
        """The share recovered with its interval and its n, as every finding of a layer states it."""
        found = self.recovered
        return {
            "recovered": found.value,
            "recovered_low": found.low,
            "recovered_high": found.high,
            "tokens": float(found.n),
        }


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

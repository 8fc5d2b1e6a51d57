"""What an adapter fits: as it stands, or something else that was tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from npt_viz.results import words
from npt_viz.results.better import Kind
from npt_viz.results.estimate import Estimate
from npt_viz.results.words import percent

Verdict = Literal["as it is", "something else", "undecided", "nothing", "not judged"]
"""not judged: the layer's attention path is the base's and nothing else fits, so there is nothing to recover."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One way to use the adapter, and how well it fits so."""

    kind: Kind
    name: str
    """In words, as they stand in a sentence: in layer 16, without RoPE, 0.71 times as large."""
    recovered: Estimate
    """Median of the share recovered over tokens that are no sinks, 95 % interval."""
    gain: Estimate
    """Median over the same tokens of what it recovers more than the adapter as it is, with the interval that decides."""
    value: float | str | None = None
    """The factor, the layer or the semantics that was tried."""
    target: str | None = None
    """Where it is about one target alone."""

    @property
    def figure(self) -> str:
        """80 % [78 %, 82 %]"""
        return interval(self.recovered)


def interval(estimate: Estimate) -> str:
    """A share with its interval: 80 % [78 %, 82 %]."""
    return f"{percent(estimate.value)} {words.interval(estimate)}".rstrip(" ")


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """One layer: what its adapter fits."""

    layer: int
    variant: str
    verdict: Verdict
    fits: tuple[Alternative, ...]
    """What fits clearly better than the adapter as it is, the best first; several where they cannot be told apart."""
    alternatives: tuple[Alternative, ...]
    """Everything that was tried: as it is first, then by the share recovered."""
    texts: str
    """The text, in words."""

    @property
    def as_it_is(self) -> Alternative:
        return self.alternatives[0]

    @property
    def best_of_each_kind(self) -> tuple[Alternative, ...]:
        """The best way of every kind that was tried, the best first."""
        best: dict[str, Alternative] = {}
        for each in self.alternatives[1:]:  # Sorted already.
            best.setdefault(each.kind, each)
        return tuple(best.values())

    @property
    def n_tokens(self) -> int:
        """Tokens behind the share as it is."""
        return self.as_it_is.recovered.n

    @property
    def setting(self) -> str:
        """n, mode, positions and text of every share that is not about other positions."""
        return self.setting_of(self.n_tokens)

    def setting_of(self, n_tokens: int) -> str:
        """The same where the shares are of so many tokens."""
        return (
            f"median of {n_tokens:,} tokens of {self.texts}, sinks left out, 95\N{NO-BREAK SPACE}% interval; local, "
            "positions as deployed unless said otherwise"
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Every layer that was probed."""

    model: str
    checkpoint: str
    layers: Mapping[int, LayerProbe]
    n_tokens: int
    n_sinks: int
    texts: str

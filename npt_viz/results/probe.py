"""What an adapter fits: as it stands, or something else that was tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from npt_viz.results import words
from npt_viz.results.better import Kind
from npt_viz.results.estimate import Estimate
from npt_viz.results.words import percent

Verdict = Literal["as it is", "something else", "undecided", "nothing", "too few tokens", "not judged"]
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

    def _stated(self, each: Alternative) -> str:
        """80 % [78 %, 82 %] in layer 16, and how many tokens where it is not as many as for the adapter as it is."""
        n = each.recovered.n
        return f"{each.figure} {each.name}" + (f" ({n:,} tokens)" if n != self.n_tokens else "")

    @property
    def setting(self) -> str:
        """n, mode, positions and text of every share that is not about other positions."""
        return (
            f"median of {self.n_tokens:,} tokens of {self.texts}, sinks left out, 95\N{NO-BREAK SPACE}% interval; local, "
            "positions as deployed unless said otherwise"
        )

    @property
    def sentence(self) -> str:
        """What fits, with the evidence."""
        own, tried = self.as_it_is, len(self.alternatives) - 1
        start = f"Layer {self.layer} recovers {own.figure} as it stands"
        match self.verdict:
            case "as it is":
                best = self.alternatives[1]
                said = f"{start}, and none of {tried} other ways to use it recovers more"
                if best.recovered.value > own.recovered.value:
                    said = (
                        f"{start}; the best of {tried} other ways to use it recovers {self._stated(best)}: no more "
                        "above it than healthy adapters show"
                    )
            case "something else":
                said = f"{start} and {self._stated(self.fits[0])}: it fits that"
            case "undecided":
                either = " or ".join(map(self._stated, self.fits))
                said = f"{start}; something else fits better, and it cannot be told which: {either}"
                if not self.fits:
                    said = f"{start}; whether something else fits better cannot be told from these tokens"
            case "nothing":
                best = self.alternatives[1]
                said = (
                    f"{start}, and the best of {tried} other ways to use it {self._stated(best)}: it fits nothing that "
                    "was tried"
                )
            case "not judged":
                return (
                    f"Layer {self.layer} keeps attention in its standard path, where there is nothing to recover, and fits "
                    f"nothing else of {tried} that were tried."
                )
            case _:
                return f"Layer {self.layer}: {self.n_tokens} tokens are not enough to tell what it fits."
        return f"{said} ({self.setting})."


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Every layer that was probed."""

    model: str
    checkpoint: str
    layers: Mapping[int, LayerProbe]
    n_tokens: int
    n_sinks: int
    texts: str

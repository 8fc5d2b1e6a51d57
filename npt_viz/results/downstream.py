"""What the NPT model predicts, always beside the same model with its modulation off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npt_viz.question import Positions


@dataclass(frozen=True, kw_only=True)
class Run:
    """One changed model on the text, token by token, against the base model."""

    kl: np.ndarray
    """(token,) KL(base ‖ this), nats"""
    nll: np.ndarray
    """(token,) −log p of the token that follows, nats; NaN at the last token of a sequence"""
    agrees: np.ndarray
    """(token,) bool: the most probable next token is the base model's"""
    drift: np.ndarray
    """(depth,) median over tokens of ‖h' − h‖ / ‖h‖ of the stream entering each layer, and after the last"""

    @property
    def median_kl(self) -> float:
        return float(np.median(self.kl))

    @property
    def mean_kl(self) -> float:
        return float(np.mean(self.kl))

    @property
    def perplexity(self) -> float:
        """exp of the mean NLL over all tokens that have a next one; NaN where none has."""
        return perplexity(self.nll)

    @property
    def agreement(self) -> float:
        """Share of tokens."""
        return float(np.mean(self.agrees))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Some layers changed: once as NPT layers, once with their modulation off."""

    layers: tuple[int, ...]
    npt: Run
    off: Run
    """The same layers without modulation: their attention dropped, unless the variant keeps it."""

    @property
    def share_recovered(self) -> float:
        """1 − KL(NPT) / KL(modulation off), of the medians; NaN where switching off costs nothing."""
        return 1 - self.npt.median_kl / self.off.median_kl if self.off.median_kl > 0 else float("nan")

    @property
    def name(self) -> str:
        return named(self.layers)


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """One text through the base model and its NPT versions: all NPT layers, each alone, and from below upwards."""

    tokens: tuple[str, ...]
    """Glyphs of all sequences, one after the other."""
    sequence: np.ndarray
    """(token,) which sequence a token belongs to"""
    position: np.ndarray
    """(token,) its place there"""
    layers: tuple[int, ...]
    """The NPT layers."""
    nll_base: np.ndarray
    """(token,) nats; NaN at the last token of a sequence"""
    arms: tuple[Arm, ...]
    """Every set of layers once."""
    positions: Positions
    attention: Mapping[int, str]
    """Layer -> where its attention output goes: withheld, beside, standard"""
    notes: tuple[str, ...] = ()

    def arm(self, layers: tuple[int, ...]) -> Arm:
        return next(arm for arm in self.arms if arm.layers == tuple(layers))

    @property
    def whole(self) -> Arm:
        """All NPT layers."""
        return self.arm(self.layers)

    @property
    def alone(self) -> tuple[Arm, ...]:
        """Each NPT layer by itself; empty where only the whole was run."""
        return tuple(arm for arm in self.arms if len(arm.layers) == 1)

    @property
    def cumulative(self) -> tuple[Arm, ...]:
        """The lowest NPT layer, the lowest two, … all of them."""
        prefixes = [self.layers[: i + 1] for i in range(len(self.layers))]
        return tuple(arm for prefix in prefixes for arm in self.arms if arm.layers == prefix)

    @property
    def perplexity_base(self) -> float:
        return perplexity(self.nll_base)

    @property
    def n_sequences(self) -> int:
        return len(np.unique(self.sequence))

    @property
    def problem(self) -> str | None:
        """Why there is nothing to judge, in a sentence; None where there is."""
        bad = ~np.isfinite(self.whole.npt.kl)
        if bad.any():
            return (
                f"The NPT model's prediction is not finite at {bad.sum()} of {len(bad)} tokens, the first is "
                f"#{int(np.argmax(bad))}. Switch layers off in the head to find the one that breaks it."
            )
        if self.whole.off.median_kl == 0:
            return (
                f"Without modulation, {named(self.layers)} already predict{'s' * (len(self.layers) == 1)} what the "
                "base model predicts, so there is nothing to recover."
            )
        return None


@dataclass(frozen=True, kw_only=True)
class Continuations:
    """What the models write after one prompt, greedily."""

    prompt: str
    base: tuple[str, ...]
    """Glyphs."""
    npt: tuple[str, ...]
    off: tuple[str, ...]
    """The NPT layers with their modulation off."""
    layers: tuple[int, ...]
    positions: Positions

    def same(self, other: tuple[str, ...]) -> int:
        """How many tokens are the base's before the first that is not."""
        pairs = zip(self.base, other, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self.base), len(other)))


def perplexity(nll: np.ndarray) -> float:
    """exp of the mean over tokens that have a next one; NaN where none has."""
    finite = nll[~np.isnan(nll)]
    return float(np.exp(finite.astype(np.float64).mean())) if finite.size else float("nan")


def named(layers: tuple[int, ...]) -> str:
    """layer 15; layers 10, 15, 20"""
    return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"

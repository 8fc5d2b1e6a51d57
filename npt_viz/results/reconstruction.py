"""Does the modulated MLP replace attention: how well it fits, token by token, and against which references."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npt_viz.question import Positions
from npt_viz.results.shown import Shown
from npt_viz.results.training import Seen
from npt_viz.results.words import percent

FLOOR_TEXTS = 24
"""Texts of the bundled sample that a floor is estimated on; no demo checkpoint has seen them."""

REFERENCE_TEXTS = 8
"""Texts of the same sample on which the predictions are compared."""


@dataclass(frozen=True, kw_only=True)
class LayerFit:
    """One NPT layer in one mode. Arrays are (token,); errors are relative to ‖target‖."""

    layer: int
    variant: str
    reconstructs: str
    """What the modulated MLP has to write: a + MLP(z_C), or MLP(z_C) where attention stays in the stream."""
    relative_error: np.ndarray
    cosine: np.ndarray
    magnitude_ratio: np.ndarray
    recovered: np.ndarray
    """1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²; NaN where no modulation is needed"""
    error_along: np.ndarray
    """(ŷ − target)·a / (‖a‖‖target‖), signed, with the base model's a; its square and that of `error_beside`
    add up to the square of `relative_error`"""
    error_beside: np.ndarray
    """‖the rest of ŷ − target‖ / ‖target‖"""
    unmodulated_error: np.ndarray
    """‖MLP(z) − target‖ / ‖target‖: the reference 'no modulation'"""
    unmodulated_along: np.ndarray
    """The part of that along a, signed"""
    exact_error: np.ndarray
    """The same for the exact patch, the closed form on gate, up and down: rounding, and nothing else"""

    @property
    def problem(self) -> str | None:
        """Why this layer cannot be judged, in a sentence; None where it can."""
        if not np.isfinite(self.recovered).any():
            return (
                f"Layer {self.layer} ({self.variant}): without modulation this layer already writes its target, so "
                "there is nothing to recover. That is so where attention keeps its standard path."
            )
        return None


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Shown):
    """Every NPT layer of one prompt, in both modes.

    local: each layer is fed the base model's own h and a. propagated: the NPT model runs and errors add up.
    """

    tokens: tuple[str, ...]
    """Glyphs."""
    is_sink: np.ndarray
    """(token,) bool: left out of medians"""
    positions: Positions
    local: Mapping[int, LayerFit]
    propagated: Mapping[int, LayerFit]
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for fit in (*self.local.values(), *self.propagated.values()):
            if fit.relative_error.shape != (len(self.tokens),):
                raise ValueError(
                    f"layer {fit.layer}: {fit.relative_error.shape} does not fit {len(self.tokens)} tokens"
                )

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(self.local)

    @property
    def n_counted(self) -> int:
        """Tokens behind every median."""
        return len(self.counted(np.arange(len(self.tokens))))

    def fits(self, mode: str) -> Mapping[int, LayerFit]:
        return self.local if mode == "local" else self.propagated

    def counted(self, values: np.ndarray) -> np.ndarray:
        """The values of the tokens that count: attention sinks only where there is nothing else."""
        return values if self.is_sink.all() else values[~self.is_sink]

    def median(self, metric: str, layer: int, mode: str = "local") -> float:
        """Over the tokens that count and have the number; NaN where none has."""
        values = self.counted(getattr(self.fits(mode)[layer], metric))
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else float("nan")

    def worst(self, layer: int, mode: str = "local", n: int = 10) -> list[int]:
        """Tokens with the largest relative error, sinks left out, the worst first."""
        error = np.where(self.is_sink, -np.inf, self.fits(mode)[layer].relative_error)
        order = np.argsort(-error, kind="stable")
        return [int(token) for token in order[:n] if np.isfinite(error[token])]


@dataclass(frozen=True, kw_only=True)
class PositionsCompared:
    """One prompt with real positions and with none, as the public training code ran attention."""

    deployed: Reconstruction
    trained: Reconstruction

    @property
    def runs(self) -> Mapping[Positions, Reconstruction]:
        """By the positions."""
        return {"deployed": self.deployed, "trained": self.trained}


@dataclass(frozen=True, kw_only=True)
class GateOracle:
    """What the gate alone could do at each token: bounded least squares, at several prices on moving it.

    Axis 0 is the price λ, descending; axis 1 the tokens in `tokens`.
    """

    layer: int
    tokens: np.ndarray
    """(token,) which tokens of the prompt"""
    penalties: tuple[float, ...]
    """λ: price of ‖σ − silu(gate)‖² / ‖silu(gate)‖² against ‖ŷ − target‖² / ‖target‖²"""
    relative_error: np.ndarray
    """(λ, token) ‖ŷ − target‖ / ‖target‖, recomputed from the gate that was found"""
    movement: np.ndarray
    """(λ, token) ‖δ‖ / ‖gate‖"""
    adapter_error: np.ndarray
    """(token,) of this adapter, for comparison"""
    adapter_movement: np.ndarray
    """(token,) how far this adapter moves the gate; 0 where it leaves the gate alone"""
    unmodulated_error: np.ndarray
    """(token,)"""
    iterations: int
    """Of the solver, in all."""
    notes: tuple[str, ...] = ()

    @property
    def recovered(self) -> np.ndarray:
        """(λ, token) 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²"""
        nothing = np.where(self.unmodulated_error > 0, self.unmodulated_error, np.nan)
        return 1 - (self.relative_error / nothing) ** 2


@dataclass(frozen=True, kw_only=True)
class ClassFloor:
    """How well adapters of one shape can do on a text, estimated by a short fit: more training may do better."""

    layer: int
    targets: tuple[str, ...]
    rank: int
    components: int
    steps: int
    seed: int
    n_train: int
    """Tokens fitted."""
    n_heldout: int
    """Tokens judged, attention sinks left out."""
    recovered: float
    """Median on held-out tokens; the class allows at least this much."""
    recovered_train: float
    """Median on the fitted tokens; far above `recovered` where the text is too short for the shape."""
    adapter_recovered: float
    """This checkpoint's own layer on the same held-out tokens; NaN for a class that is not its own."""
    positions: Positions
    adapter_seen: Seen | None = None
    """How much of the held-out text this checkpoint was trained on; None for a class that is not its own."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be concluded from this fit, in words; None where something can."""
        if not self.recovered > USELESS:
            return (
                f"the fit itself recovers {percent(self.recovered)}: it did not learn, so it shows no limit"
            )
        if self.recovered_train - self.recovered > MEMORISED:
            return (
                f"the fit recovers {percent(self.recovered_train)} of its own text and {percent(self.recovered)} of the "
                "held-out text: it memorised, so it shows no limit"
            )
        return None

    @property
    def allows(self) -> float:
        """The larger of the fit and the checkpoint itself, which is one of its class."""
        return float(np.nanmax([self.recovered, self.adapter_recovered]))

    @property
    def seen_note(self) -> str:
        """What has to be said of `adapter_recovered` where the checkpoint may have been trained on that text."""
        note = self.adapter_seen.note if self.adapter_seen else ""
        return f" ({note})" if note else ""

    @property
    def shape(self) -> str:
        """gate+up, rank 64, 1 component"""
        return f"{'+'.join(self.targets)}, rank {self.rank}, {self.components} component{'s' * (self.components > 1)}"

    @property
    def is_good(self) -> bool:
        """Whether the fit says anything."""
        return self.problem is None

    @property
    def shows_more(self) -> bool:
        """Whether the fit does clearly better than the checkpoint."""
        return self.recovered > self.adapter_recovered + MORE_TRAINING


USELESS = 0.05
"""A fit that recovers less than this of held-out text failed; nothing follows from it."""

MEMORISED = 0.2
"""A fit that recovers this much more of its own text than of held-out text has too little text to estimate a floor."""

MORE_TRAINING = 0.02
"""A fresh fit that recovers this much more than the checkpoint shows that the shape is not what holds it back."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One layer with one thing about its modulation taken away or exaggerated."""

    name: str
    meaning: str
    recovered: np.ndarray
    """(token,), local"""
    relative_error: np.ndarray
    """(token,), local"""
    kl: np.ndarray | None = None
    """(token,) KL(base ‖ base with this layer alone), nats"""


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """What matters about one layer's modulation; the first row is the layer as it is."""

    layer: int
    rows: tuple[Ablation, ...]
    is_sink: np.ndarray
    """(token,) bool"""
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> Ablation:
        return next(row for row in self.rows if row.name == name)

    def median(self, metric: str, row: Ablation) -> float:
        """Over the tokens that are no attention sinks; NaN where nothing was measured."""
        values = getattr(row, metric)
        if values is None:
            return float("nan")
        values = values if self.is_sink.all() else values[~self.is_sink]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else float("nan")

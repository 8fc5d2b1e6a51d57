"""Does the modulated MLP replace attention: how well it fits, token by token, and against which references."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from npt_viz.question import Mode, Positions
from npt_viz.results.training import Seen


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
class Reconstruction:
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

    def without_rope(self, layer: int) -> bool:
        """Whether the layer fits attention without RoPE clearly better than attention as it is deployed."""
        deployed, trained = (run.median("recovered", layer) for run in (self.deployed, self.trained))
        return fits_without_rope(deployed, trained)

    def sentence(self, layer: int) -> str:
        """Which positions the layer was trained for."""
        deployed, trained = (percent(run.median("recovered", layer)) for run in (self.deployed, self.trained))
        sentence = f"Layer {layer} recovers {deployed} with real positions and {trained} without RoPE"
        if self.without_rope(layer):
            return f"{sentence}: it was trained on attention without positions, which is not the attention it replaces."
        return f"{sentence}: no sign that it was trained without positions."


ROPE_RATIO = 0.25
"""A layer counts as trained without RoPE where it leaves less than this share of what it leaves with real positions.

Attention without RoPE is simpler, so every adapter fits it better. SmolLM2-135M: healthy demo checkpoints leave 0.44
to 1.1 times as much, by layer, the unhealthy one 0.10 times."""


def fits_without_rope(deployed: float, trained: float) -> bool:
    """Whether these shares recovered are those of an adapter that was trained without RoPE; False for NaN."""
    return trained > 0 and 1 - trained < ROPE_RATIO * (1 - deployed)


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

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        error, movement = np.median(self.relative_error[-1]), np.median(self.movement[-1])
        return (
            f"Layer {self.layer}: the gate alone reaches a relative error of {error:.1e} (median of "
            f"{len(self.tokens)} tokens) when it may move by {movement:.2g} times its own norm; this adapter moves it "
            f"by {np.median(self.adapter_movement):.2g} times and leaves {np.median(self.adapter_error):.2f}. "
            "A scalar times a vector is no limit at a single token; what limits is one adapter for all tokens."
        )


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
    def sentence(self) -> str:
        """What was estimated, how, and from how much."""
        sentence = (
            f"{self.shape}: at least {percent(self.allows)}. A fit of {self.steps} steps on {self.n_train:,} tokens "
            f"recovers {percent(self.recovered)} of {self.n_heldout:,} held-out tokens and "
            f"{percent(self.recovered_train)} of its own (seed {self.seed})"
        )
        if not np.isfinite(self.adapter_recovered):
            return f"{sentence}."
        sentence += f"; this checkpoint recovers {percent(self.adapter_recovered)} of the held-out tokens{self.seen_note}"
        if self.recovered > self.adapter_recovered + MORE_TRAINING:
            return f"{sentence}, less than this short fit: more training can help."
        return f"{sentence}."


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

    @property
    def sentence(self) -> str:
        """What the scalar and the direction are worth."""
        as_it_is = self.median("recovered", self.rows[0])
        parts = [
            f"with {what} the layer recovers {percent(self.median('recovered', self.row(name)))}"
            for name, what in (
                ("mean scalar", "a constant scalar"),
                ("mean direction", "one direction for all tokens"),
            )
            if any(row.name == name for row in self.rows)
        ]
        return (
            f"Layer {self.layer} recovers {percent(as_it_is)}" + "".join(f"; {part}" for part in parts) + "."
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The Reconstruction page's first line, from whatever has been computed so far."""

    reconstruction: Reconstruction
    layer: int
    mode: Mode = "local"
    floors: tuple[ClassFloor, ...] = field(default=())
    """The adapter's own class first, then larger ones."""

    @property
    def sentence(self) -> str:
        """What the layer recovers on the prompt, and on the same held-out tokens it, its shape and larger ones."""
        problem = self.reconstruction.fits(self.mode)[self.layer].problem
        if problem:
            return problem
        share = self.reconstruction.median("recovered", self.layer, self.mode)
        sentence = (
            f"Layer {self.layer} recovers {percent(share)} of what attention does"
            if share >= 0
            else f"Layer {self.layer} recovers nothing: it is further from its target than no modulation ({percent(share)})"
        )
        n = self.reconstruction.n_counted
        sentence += f" (median of {n:,} token{'s' * (n != 1)}, {self.mode})."
        if not self.floors:
            return sentence
        own, *larger = self.floors
        # Another text than the prompt, so the checkpoint's own number there comes first.
        sentence += (
            f" On {own.n_heldout:,} held-out tokens of the sample it recovers {percent(own.adapter_recovered)}{own.seen_note}; "
            f"this shape ({own.shape}) allows at least {percent(own.allows)}"
        )
        return (
            sentence + "".join(f"; {'+'.join(f.targets)} at least {percent(f.allows)}" for f in larger) + "."
        )


def percent(share: float) -> str:
    """41 %, −12 %; an en dash for NaN."""
    if not np.isfinite(share):
        return "–"
    whole = round(100 * share)
    return f"{'−' if whole < 0 else ''}{abs(whole)}\N{NO-BREAK SPACE}%"

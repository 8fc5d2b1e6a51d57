"""Whether the modulation's vectors carry information from token to token, or collapse."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.question import Mode, Positions
from npt_viz.results.shown import Shown
from npt_viz.results.token_card import LogitChange

Result = TypeVar("Result")

QUANTITIES = ("s·v_b", "v_b", "v_a")
"""Vectors that a map can show: what is added to the projection's output, its direction before the scalar, what reads."""


DIRECTIONS = ("this token", "mean", "axis 1", "axis 2")
"""Directions of s·v_b whose next tokens can be asked for."""


MIN_REFERENCE = 1.1
"""Effective rank of the redrawn adapter below which tokens are too alike to tell."""

MAX_LOST = 0.01
"""What one direction for all tokens may leave out before the others count: of the vectors' energy, and of what the
modulation adds to the layer's output, ‖ŷ₁ − ŷ‖² / ‖ŷ − MLP(z)‖² (median over tokens, with the whole 95 % interval below).
Specimens put onto one direction leave out less than 1e-3 of both. Either alone is no sign: in the demo checkpoints one
direction of v_a leaves out 0.04 to 5 % of what is added, because the scalar varies little there."""


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """The tokens of an inspected prompt, and which of them count."""

    glyphs: tuple[str, ...]
    mode: Mode
    positions: Positions
    is_sink: np.ndarray
    """(token,) bool"""
    keep_sinks: bool
    """Whether attention sinks count."""


class Unavailable(NamedTuple):
    """A sentence in place of a result that this input does not have."""

    sentence: str

    @classmethod
    def unless(cls, result: Callable[[], Result]) -> "Result | Unavailable":
        """The result, or the sentence of the NptVizError that says why there is none."""
        try:
            return result()
        except NptVizError as error:
            return cls(str(error))


class Baseline(NamedTuple):
    """Baseline of a number: its value under chance."""

    mean: float
    sd: float
    n: int
    """Random draws; 0 for a closed form."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One way in which an adapter can have collapsed: whether it has, with the numbers that say so."""

    name: str
    collapsed: bool
    evidence: Mapping[str, float]
    """label -> number"""
    threshold: float
    """The first evidence number is held against this one; collapsed lies below it."""
    sentence: str


class Spread(NamedTuple):
    """How many directions a set of vectors uses."""

    effective_rank: float
    """exp of the entropy of the normalised singular values"""
    participation_ratio: float
    """(Σσ²)² / Σσ⁴"""


@dataclass(frozen=True, kw_only=True)
class SpreadReference:
    """The spread of a set of vectors that the measured one is held against."""

    name: str
    effective_rank: Baseline
    participation_ratio: Baseline


@dataclass(frozen=True, kw_only=True)
class DirectionMap:
    """One vector a token, on the two axes along which they differ most."""

    layer: int
    target: str
    quantity: str
    """One of QUANTITIES."""
    component: int | None
    """None for the sum over components."""
    tokens: np.ndarray
    """(n,) positions in the prompt"""
    coordinates: np.ndarray
    """(n, 2), in the vectors' own unit, centred"""
    mean_norm: float
    """Length of the mean vector: where 0 lies from the centre of the map"""
    explained: np.ndarray
    """(axis,) share of the variance, descending; all axes that exist"""
    random_sds: np.ndarray
    """(2,) standard deviation along the first two axes of vectors with the same norms and random directions"""
    norms: np.ndarray
    """(n,) lengths of the vectors"""
    spread: Spread
    """Of the vectors as they are, not centred"""
    ceiling: int
    """The most directions that so many vectors of this form can use"""
    references: tuple[SpreadReference, ...]

    def __post_init__(self):
        if self.coordinates.shape != (len(self.tokens), 2):
            raise ValueError(f"coordinates {self.coordinates.shape} do not fit {len(self.tokens)} tokens")

    @property
    def radius(self) -> float:
        """How far the map has to reach to be readable: three times as far as 95 % of the tokens lie along an axis."""
        most = 3 * float(np.quantile(np.abs(self.coordinates), 0.95, axis=0).max())
        return most if most > 0 else np.inf

    @property
    def far(self) -> np.ndarray:
        """(n,) bool: tokens that lie beyond the radius."""
        return np.any(np.abs(self.coordinates) > self.radius, axis=1)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How alike the weight changes of two tokens are."""

    tokens: np.ndarray
    """(n,) positions in the prompt"""
    cosines: np.ndarray
    """(n, n) ⟨ΔW_t, ΔW_t'⟩ / ‖ΔW_t‖‖ΔW_t'‖; NaN where a token has no update"""
    mean: float
    """Over pairs of different tokens"""
    attention: Baseline
    """cos(a_t, a_t')² over the same pairs: the alignment if ΔW were a aᵀ, so what the attention itself brings"""
    random: Baseline
    """Of rank-1 updates with random directions"""


@dataclass(frozen=True, kw_only=True)
class ComponentShares:
    """How the components divide the work."""

    shares: np.ndarray
    """(component,) Σ_t (s_j v_b,j · δ) / Σ_t ‖δ‖² with δ = Σ_j s_j v_b,j; they add up to 1, below 0 is against the sum"""
    cosines: np.ndarray
    """(component, component) cos(s_i v_b,i, s_j v_b,j), mean over tokens"""
    scalar_means: np.ndarray
    """(component,) of the scalar over tokens"""
    scalar_sds: np.ndarray
    """(component,)"""
    random_sd: float
    """Of the cosine of two random directions; their mean is 0"""


@dataclass(frozen=True, kw_only=True)
class ExactAgreement:
    """Whether the modulation points where the exact patch would."""

    formula: str
    """The exact change of this target."""
    tokens: np.ndarray
    """(n,) positions in the prompt"""
    cosines: np.ndarray
    """(n,) cos(s·v_b, exact)"""
    ratios: np.ndarray
    """(n,) ‖s·v_b‖ / ‖exact‖"""
    shuffled: Baseline
    """Median cosine with the ΔW of other tokens (mean and sd are over shuffles): what a change that ignores the token reaches"""
    random_sd: float
    """Of the cosine of a random direction; its mean is 0"""


@dataclass(frozen=True, kw_only=True)
class MovedUnits:
    """The units of the projection that the modulation moves most over the prompt."""

    target: str
    tokens: np.ndarray
    """(n,) positions in the prompt"""
    units: np.ndarray
    """(unit,) indices, most moved first"""
    changes: np.ndarray
    """(unit, n) what is added to the unit at every token"""
    own_sizes: np.ndarray
    """(unit,) rms of the unit without modulation"""
    energy_shares: np.ndarray
    """(unit,) of Σ_t ‖δ_t‖²"""
    n_units: int
    """Outputs of the projection: alike, each has a share of 1 / n_units"""
    effective_units: float
    """(ΣE)² / ΣE² of the units' energies E: how many share the change"""


@dataclass(frozen=True, kw_only=True)
class Directions(Shown):
    """One target of one NPT layer over a prompt."""

    layer: int
    target: str
    variant: str
    mode: Mode
    seed: int
    tokens: np.ndarray
    """(n,) positions in the prompt that were compared"""
    alignment: Alignment | Unavailable
    components: ComponentShares | Unavailable
    exact: ExactAgreement | Unavailable
    units: MovedUnits | Unavailable
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know, in sentences."""
    prompt: PromptTokens | None = None
    """The prompt's tokens, for whoever shows the result by itself."""

    @property
    def collapsed(self) -> bool:
        return any(verdict.collapsed for verdict in self.verdicts)


@dataclass(frozen=True, kw_only=True)
class DirectionVocabulary:
    """The next tokens that one direction speaks for."""

    direction: str
    """In words."""
    token: int
    """Where everything is linearised."""
    promoted: tuple[LogitChange, ...]
    suppressed: tuple[LogitChange, ...]
    random: Baseline
    """Largest |change| of a logit for random directions of the same norm"""
    norm: float
    """Of the direction, in the target's output"""
    linearised_at: str
    """What is linearised, and where."""

"""Card of one pinned token in one layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One gate unit that the modulation moved."""

    index: int
    before: float
    """W_g z of this unit"""
    after: float
    """with the modulation"""

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class LogitChange:
    """One vocabulary entry whose logit the modulation moves, to first order."""

    glyph: str
    id: int
    change: float
    """logit units; through W_d, the final norm (linearised) and the unembedding"""


@dataclass(frozen=True, kw_only=True)
class TokenCard:
    """One token of one NPT layer, in the mode of the inspection it belongs to."""

    layer: int
    token: int
    scalars: Mapping[str, np.ndarray]
    """target -> (component,)"""
    update_norms: Mapping[str, float]
    """target -> ‖ΔW‖_F"""
    units: tuple[Unit, ...]
    """Gate units moved most, by |change|."""
    n_units: int
    """d_ffn"""
    effective_units: float
    """(Σδ²)² / Σδ⁴: how many units share the change; d_ffn if all move alike"""
    promoted: tuple[LogitChange, ...]
    suppressed: tuple[LogitChange, ...]
    output_change_norm: float
    """‖ŷ − MLP(z)‖: what the modulation adds to the residual stream"""
    linearised_at: str
    """Where the final norm is linearised."""

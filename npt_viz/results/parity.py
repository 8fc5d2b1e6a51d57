"""Whether the numbers can be trusted: a few equalities that must hold on this model, checkpoint and machine."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One equality, measured."""

    name: str
    measured: float
    """The difference found."""
    tolerance: float
    """The largest difference that is rounding; 0 where the two sides must be the same bits."""
    unit: str
    meaning: str
    """What is compared with what, in a sentence."""

    @property
    def passed(self) -> bool:
        # Not `> tolerance` turned round: NaN has to fail.
        return self.measured <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The checks of one model and checkpoint."""

    model: str
    checkpoint: str
    prompt: str
    n_tokens: int
    """Of the prompt."""
    token: int
    """Position at which ΔW was written out."""
    layers: tuple[int, ...]
    """The NPT layers that ran."""
    written_out: tuple[int, ...]
    """Those whose ΔW was written out."""
    dtype: str
    """Of the base model; the tolerances follow it."""
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

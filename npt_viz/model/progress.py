"""How long work says where it is: a function that is told the stage and, where it is known, the fraction done."""

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""progress("loading the weights", 0.4); the fraction is in 0..1, or None where it cannot be known."""


def silent(stage: str, fraction: float | None = None) -> None:
    """The progress of someone who does not listen."""

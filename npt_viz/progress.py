"""Progress callbacks of long work."""

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""progress("loading the weights", 0.4): the stage, and the fraction done in 0..1, or None where it is not known."""

CountProgress = Callable[[int, int], None]
"""progress(3, 10): steps done, steps in all. An exception that it raises stops the work and leaves no hook behind."""


def no_progress(stage: str, fraction: float | None = None) -> None:
    """No-op progress callback."""

"""Which number of a row is its step, in what other tools keep: their own counter or what the training logged."""

from collections.abc import Mapping

from npt_viz.runs.table import step_of

COUNTER = "_step"
"""Of calls to log, which is a training's step only where no other is logged."""

STEPS = ("step", "global_step", "trainer/global_step", "train/global_step", COUNTER)
"""What a step is called, the more telling first."""


class StepOfRow:
    """The step of each row as they come: one logged by the training before the tool's own counter.

    Once the training has logged a step of its own, a row without one, such as an evaluation's, belongs to the last.
    """

    def __init__(self) -> None:
        self._own: str | None = None
        self._last: int | None = None

    def __call__(self, row: Mapping, counted: int | None = None) -> int | None:
        """counted: the tool's own counter, where it does not stand in the row."""
        for name in STEPS[:-1]:
            if (step := step_of(row.get(name))) is not None:
                self._own, self._last = name, step
                return step
        return self._last if self._own else step_of(row.get(COUNTER, counted))

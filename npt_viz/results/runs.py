"""What is known of a training from its log, and lines of it to draw; numbers only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from npt_viz.results.training import Curves

if TYPE_CHECKING:
    import pandas

Axis = Literal["step", "seconds", "tokens"]

HELDOUT = "heldout/"
"""What columns measured on held-out text begin with."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, as its log tells it."""

    name: str
    """Of the log's own, or of its folder."""
    origin: str
    """Where it was read."""
    part: str | None = None
    """Its name in a file of several runs; None where the file is of one."""
    format: Literal["npt_viz", "published"]
    layers: Mapping[int | None, Curves]
    """Layer -> its curves; None holds what the log says of no layer in particular."""
    marks: tuple[tuple[int, str], ...] = ()
    """(step, label) where the recipe changes: stages, curriculum."""
    notes: tuple[str, ...] = ()
    """What a reader must know about the columns, a sentence each."""
    skipped: int = 0
    """Lines that could not be read."""
    settings: Mapping = field(default_factory=dict)
    """How it was trained, as far as the log or the config beside it says."""

    @property
    def columns(self) -> list[str]:
        """Of all layers, in the order of their appearance."""
        return list(dict.fromkeys(name for curves in self.layers.values() for name in curves.columns))

    @property
    def last_step(self) -> int:
        return max(int(curves.steps[-1]) for curves in self.layers.values())

    def to_frame(self) -> "pandas.DataFrame":
        """One row a layer and step, with the run's name; NaN where something was not measured."""
        import pandas

        return pandas.concat(
            [
                pandas.DataFrame({"run": self.name, "layer": layer, "step": curves.steps, **curves.columns})
                for layer, curves in self.layers.items()
            ],
            ignore_index=True,
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One column of one layer of one run, for drawing; a NaN in y interrupts the line where no number was logged."""

    series: str
    """The run, and its layer where it has several."""
    column: str
    x: np.ndarray
    y: np.ndarray
    smooth: np.ndarray | None = None
    """The exponential moving average of y, where it was asked for."""
    n_values: int = 0
    """In the log; more than are drawn where the log is long."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Each loss's share of the weighted total along the steps."""

    series: str
    steps: np.ndarray
    shares: Mapping[str, np.ndarray]
    """Loss -> its share at `steps`, by size; they add up to 1."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One column of one layer of one run in a few numbers."""

    series: str
    column: str
    first: float
    last: float
    last_step: int
    best: float
    """NaN where neither low nor high is better."""
    best_step: int | None
    n_values: int

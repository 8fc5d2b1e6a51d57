"""What a result means, in words: one function a conclusion, used by pages and commands alike.

A sentence states what it was measured on, carries the interval of its number, and says "too few tokens to tell" in
place of an absence. tests/results/sentences holds each against its data by other means; one that it does not know fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from npt_viz.question import Mode, Positions
from npt_viz.results.directions import PromptTokens
from npt_viz.results.estimate import Estimate
from npt_viz.results.inspection import Inspection
from npt_viz.results.words import counted


class Strong(str):
    """A part that a page shows in bold."""


class Exact(str):
    """Text from a prompt, a file or a user, shown exactly, in the code font."""


class Quoted(str):
    """Text with something of a prompt or a user in it, shown exactly; all other parts are the program's own words."""


@dataclass(frozen=True)
class Sentence:
    """One or more sentences in parts; str gives the plain text."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(self.parts)

    def __add__(self, other: "Sentence") -> "Sentence":
        """This and another one after it; an empty one leaves no space."""
        between = (" ",) if self.parts and other.parts else ()
        return Sentence((*self.parts, *between, *other.parts))


def said(*parts: str) -> Sentence:
    """A sentence of these parts."""
    return Sentence(parts)


NOTHING = Sentence(())

Stated = TypeVar("Stated", bound=Callable[..., Sentence])

STATED: dict[str, Callable[..., Sentence]] = {}
"""Name -> every function that states a conclusion."""


def states(name: str) -> Callable[[Stated], Stated]:
    """Register a function that turns results into a sentence; the tests hold every one of them against its data."""

    def registered(function: Stated) -> Stated:
        STATED[name] = function
        return function

    return registered


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a sentence is about: which text, in which mode, with or without attention sinks."""

    text: str = "this prompt"
    mode: Mode = "local"
    positions: Positions = "deployed"
    is_sink: np.ndarray
    """(token,) bool"""
    with_sinks: bool = False
    """Whether they count."""

    @classmethod
    def of_run(cls, run: Inspection, *, with_sinks: bool = False) -> "Basis":
        """What a sentence about an inspected prompt is measured on."""
        return cls(mode=run.mode, positions=run.positions, is_sink=run.is_sink, with_sinks=with_sinks)

    @classmethod
    def of_prompt(cls, prompt: PromptTokens) -> "Basis":
        """What a sentence about a result that carries its prompt's tokens is measured on."""
        return cls(
            mode=prompt.mode,
            positions=prompt.positions,
            is_sink=prompt.is_sink,
            with_sinks=prompt.keep_sinks,
        )

    @property
    def counts(self) -> np.ndarray:
        """(token,) bool: tokens that count; all where there is nothing but sinks."""
        return np.ones_like(self.is_sink) if self.with_sinks or self.is_sink.all() else ~self.is_sink

    def of(self, values: np.ndarray) -> np.ndarray:
        """The values of the tokens that count."""
        return np.asarray(values)[self.counts]

    def words(self, n: int, measure: str = "median and 95 % interval of") -> str:
        """(this prompt, local, positions as deployed, median and 95 % interval of 18 tokens, 1 sink left out)"""
        n_sinks = int(self.is_sink.sum())
        if not n_sinks:
            sinks = "no attention sink"
        else:
            sinks = f"{counted(n_sinks, 'sink')} {'left out' if not self.counts.all() else 'counted'}"
        return f"({self.text}, {self.mode}, positions as {self.positions}, {measure} {counted(n, 'token')}, {sinks})"


def is_known(estimate: Estimate) -> bool:
    """Whether the tokens are enough for an interval."""
    return bool(np.isfinite(estimate.low))

"""Who measures the parts: a small seam, by default this process, one part after the other."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from npt_viz.scanning.measuring import Measurer
from npt_viz.scanning.summary import to_bytes
from npt_viz.scanning.windows import Part


class Done(NamedTuple):
    """A part that is measured."""

    part: Part
    content: bytes
    """Of its file."""


class Executor(Protocol):
    """Measures parts, in any order, with results that depend on the part alone."""

    def run(self, parts: Iterable[Part]) -> Iterator[Done]:
        """The parts as they are done; asks for no more of them than it works on. Closing it stops the work."""
        ...


class InProcess:
    """One part after the other, here."""

    def __init__(self, measurer: Measurer) -> None:
        self._measurer = measurer

    def run(self, parts: Iterable[Part]) -> Iterator[Done]:
        """See Executor."""
        for part in parts:
            yield Done(part, to_bytes(self._measurer.summary(part)))

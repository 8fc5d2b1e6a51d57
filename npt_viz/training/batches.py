"""Order of the training text: random, equal for equal seeds, and resumable."""

from collections.abc import Sequence

import torch

from npt_viz.shapes import Int, Tensor
from npt_viz.training.streams import Batch


class Shuffled:
    """Endless shuffled indices below n; each comes once before any comes twice."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.long)

    def take(self, size: int) -> Int[Tensor, "index"]:
        """The next `size` indices."""
        while len(self._order) < size:
            self._order = torch.cat([self._order, torch.randperm(self.n, generator=self._generator)])
        indices, self._order = self._order[:size], self._order[size:]
        return indices

    @property
    def state(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state(), "order": self._order.clone()}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        self._order = state["order"].clone()


class Batches:
    """Endless batches of single tokens, or of whole sequences where losses need logits.

    starts: first row of every sequence, and the number of rows.
    tokens: of a batch of single tokens; whole sequences are added until there are at least as many.
    """

    def __init__(self, starts: Sequence[int], tokens: int, seed: int, *, whole: bool) -> None:
        self._starts, self._tokens, self._whole = starts, tokens, whole
        self.order = Shuffled(len(starts) - 1 if whole else starts[-1], seed)

    def __next__(self) -> Batch:
        if not self._whole:
            return Batch(self.order.take(self._tokens))
        rows, lengths = [], []
        while sum(lengths) < self._tokens:
            i = int(self.order.take(1))
            rows.append(torch.arange(self._starts[i], self._starts[i + 1]))
            lengths.append(len(rows[-1]))
        return Batch(torch.cat(rows), tuple(lengths))

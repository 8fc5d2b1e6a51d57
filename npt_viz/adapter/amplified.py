"""A modulation whose change is multiplied by a factor."""

from typing import Any

from torch import Tensor, nn

from npt_viz.adapter.layer import pooled_over


class Amplified(nn.Module):
    """What the modulation adds, times a factor; −1 turns its sign."""

    def __init__(self, modulation: Any, factor: float) -> None:
        super().__init__()
        self.modulation: Any = modulation
        self.factor = factor

    def of_text(self, attention: Tensor) -> "Amplified":
        """The same on the whole text whose attention this is, for a rule that pools."""
        return Amplified(pooled_over(self.modulation, attention), self.factor)

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        """Change of the projection's output."""
        return self.factor * self.modulation.change(attention, x, unmodulated)

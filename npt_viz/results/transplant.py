"""Results of transplants."""

from dataclasses import dataclass
from typing import NamedTuple

from npt_viz.question import Mode, Positions
from npt_viz.results.editing import NextToken, Outcome, rank_changes
from npt_viz.results.inspection import Token


class LayerShare(NamedTuple):
    """Effect of the transplant into one layer alone."""

    layer: int
    kl_at_token: float
    """KL(NPT ‖ transplanted in this layer only) at the token, nats"""
    kl_at_end: float
    """The same at the prompt's last token"""


@dataclass(frozen=True, kw_only=True)
class Transplant:
    """A prompt in which one token used another token's weight change."""

    donor_pieces: tuple[Token, ...]
    pieces: tuple[Token, ...]
    donor_token: int
    token: int
    layers: tuple[int, ...]
    operation: str
    strength: float
    mode: Mode
    positions: Positions
    npt: Outcome
    """The NPT model as it is; every KL is measured against it."""
    transplanted: Outcome
    base: Outcome
    donor_top: list[tuple[str, int, float]]
    """(glyph, id, probability) after the donor's token in its own text, in the NPT model"""
    shares: tuple[LayerShare, ...]

    @property
    def next_tokens(self) -> list[NextToken]:
        """Probabilities and ranks at the prompt's last token, without and with the transplant."""
        return rank_changes(self.npt, self.transplanted)

    @property
    def sentence(self) -> str:
        """One line: operation, donor token, receiving token, layers."""
        where = f"layer{'s' if len(self.layers) > 1 else ''} {', '.join(map(str, self.layers))}"
        donor = f"{self.donor_pieces[self.donor_token].glyph} #{self.donor_token}"
        receiver = f"{self.pieces[self.token].glyph} #{self.token}"
        if self.operation == "scale":
            return f"{self.strength:g} × own ΔW at {receiver}, {where}"
        return f"{self.operation} ({self.strength:g}) ΔW of {donor} at {receiver}, {where}"

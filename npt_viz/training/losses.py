"""The loss terms: each a function of one Student batch that returns one number per token or one number.

A new term is one function and one line in TERMS (docs/how-to/add-a-loss.md).
"""

from collections.abc import Callable, Mapping

import torch

from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Tensor
from npt_viz.training.data import Student


def direct(
    output: Float[Tensor, "token model"],
    target: Float[Tensor, "token model"],
    unmodulated: Float[Tensor, "token model"],
) -> Float[Tensor, ""]:
    """Mean over tokens of ‖ŷ − target‖² / ‖MLP(z) − target‖²: 1 is no modulation, 0 is perfect.

    Every token counts the same, whatever its size: a plain mean square is dominated by a few outlier tokens.
    """
    error = (output - target).square().sum(-1)
    nothing = (unmodulated - target).square().sum(-1)
    return (error / nothing.clamp_min(torch.finfo(nothing.dtype).tiny)).mean()


TERMS: dict[str, Callable[[Student], Float[Tensor, ""]]] = {
    "direct": lambda s: direct(s.output, s.target, s.unmodulated),
}
"""Name on the command line and the page -> term."""


def checked(losses: Mapping[str, float]) -> dict[str, float]:
    """The active terms with their weights; raises for unknown names and weights that are no weights."""
    for name, weight in losses.items():
        if name not in TERMS:
            raise NptVizError(f"loss {name!r} does not exist; choose among {', '.join(TERMS)}")
        if not 0 <= weight < float("inf"):
            raise NptVizError(f"the weight of loss {name!r} must be 0 or more and finite, got {weight}")
    active = {name: float(weight) for name, weight in losses.items() if weight > 0}
    if not active:
        raise NptVizError("no loss is active: give at least one a weight above 0, for example direct=1")
    return active

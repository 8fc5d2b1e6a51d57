"""Weights of the losses by step, and the tokens that count."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from npt_viz.errors import NptVizError
from npt_viz.shapes import Float, Tensor

STAGE_STEPS = 1000
"""S of the published recipe."""

COMPOSITE = {
    "direct": 10.0,
    "attention_encoding": 5.0,
    "fidelity": 1.0,
    "regularisation": 0.01,
    "guidance": 2.0,
    "bottleneck": 0.5,
}
"""The published 'improved single-layer loss'."""


def staged_weights(
    weights: Mapping[str, float | int], step: int, stage_steps: int = STAGE_STEPS
) -> dict[str, float]:
    """The published three stages, after `step` finished steps; losses the recipe does not stage keep their weight.

    step < S: the adapter learns to encode attention. S … 3S: a line from there to balance, p = (step − S)/2S.
    From 3S on: the weights given, the encoding at a fifth of its own. The jump at 3S is in the recipe.
    """
    if step >= 3 * stage_steps:
        return {
            name: 0.2 * weight if name == "attention_encoding" else weight for name, weight in weights.items()
        }
    p = max(0.0, (step - stage_steps) / (2 * stage_steps))
    stage = {
        "direct": 0.1 + 0.4 * p,
        "attention_encoding": 0.8 - 0.5 * p,
        "fidelity": 0.1 + 0.2 * p,
        "regularisation": 0.01,
    }
    return {name: stage.get(name, weight) for name, weight in weights.items()}


class AdaptiveWeights:
    """Factors on the losses' weights that even out their gradients: ∝ 1/EMA(‖∇L‖), with mean 1.

    The norm is of the gradient with respect to the adapter's parameters. As published it is that of grad(L, L), which
    is 1 for every loss, so that form is uniform: 1/n for each of n losses, whatever weights were asked for.
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self.averages: dict[str, float] = {}

    def updated(self, norms: Mapping[str, float]) -> dict[str, float]:
        """Take in this step's gradient norms; the factors for this step."""
        for name, norm in norms.items():
            # The first value starts the average; a start at zero would be another way to be uniform.
            before = self.averages.get(name, norm)
            self.averages[name] = self.decay * before + (1 - self.decay) * norm
        # A loss without a gradient would take the whole budget for nothing.
        largest = max(self.averages[name] for name in norms)
        if largest == 0:
            return dict.fromkeys(norms, 1.0)
        inverse = {name: 1 / max(self.averages[name], 1e-6 * largest) for name in norms}
        scale = len(inverse) / sum(inverse.values())
        return {name: value * scale for name, value in inverse.items()}


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Which tokens count: first those that attention moves little."""

    steps: tuple[int, ...] = (500, 1000)
    """Ends of the stages, in finished steps; after the last, every token counts."""

    quantiles: tuple[float, ...] = (0.3, 0.7)
    """In each stage, tokens whose ‖a‖ lies below this quantile of the batch count."""

    def __post_init__(self):
        if len(self.steps) != len(self.quantiles) or list(self.steps) != sorted(set(self.steps)):
            raise NptVizError(
                f"curriculum: steps must rise and go one to one with quantiles, got {self.steps} and {self.quantiles}"
            )
        if not all(0 < quantile <= 1 for quantile in self.quantiles):
            raise NptVizError(
                f"curriculum: quantiles must lie above 0 and at most at 1, got {self.quantiles}"
            )

    def quantile(self, step: int) -> float:
        """The quantile in force after `step` finished steps; 1 when all tokens count."""
        return next((q for end, q in zip(self.steps, self.quantiles, strict=True) if step < end), 1.0)

    def mask(self, attention: Float[Tensor, "token model"], step: int) -> Tensor:
        """(token,) bool: the tokens that count."""
        norm, quantile = attention.float().norm(dim=-1), self.quantile(step)
        if quantile == 1.0:
            return torch.ones_like(norm, dtype=torch.bool)
        return norm < norm.quantile(quantile)


def curriculum_of(text: str) -> Curriculum | None:
    """A Curriculum from `500:0.3,1000:0.7`, STEP:QUANTILE; the default one from `on`, None from `off`."""
    if text.strip() in ("on", "off"):
        return Curriculum() if text.strip() == "on" else None
    try:
        stages = [stage.split(":") for stage in text.split(",")]
        steps, quantiles = zip(*((int(step), float(quantile)) for step, quantile in stages), strict=True)
    except ValueError:
        raise NptVizError(
            f"curriculum {text!r} must be on, off or STEP:QUANTILE,…, for example {curriculum_text(Curriculum())}"
        ) from None
    return Curriculum(steps=steps, quantiles=quantiles)


def curriculum_text(curriculum: Curriculum) -> str:
    """The text that `curriculum_of` reads as this curriculum."""
    stages = zip(curriculum.steps, curriculum.quantiles, strict=True)
    return ",".join(f"{step}:{quantile:g}" for step, quantile in stages)

"""Settings of a training and their defaults, for library, command and page. Imports without torch."""

import math
from dataclasses import dataclass

from npt_viz.errors import NptVizError
from npt_viz.question import Positions, check_positions

SCHEDULES = ("cosine", "constant")
STREAMS = ("base", "in_order", "end_to_end")
AUTOCAST = {"auto": None, "on": True, "off": False}
"""Name on the command and the page -> Recipe.autocast."""
INITIALISATIONS = ("attention", "improved", "conservative", "uniform")
"""Names that AdapterSpec takes; the first is its default."""

WINDOW = 256
"""Tokens of one training sequence; longer texts are cut."""

TOKENS = 16_384
"""Of text to use at most, captured before the first step; 0 takes all of it."""

FRESH_VARIANT = "N4"
FRESH_TARGETS = ("gate", "up")
FRESH_RANK = 64
FRESH_COMPONENTS = 1
FRESH_LOSSES = "direct_robust=1"
"""Of a fresh adapter by default. They stand here because AdapterSpec itself needs torch."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training, apart from the losses and the text."""

    steps: int = 1500
    """Optimiser steps; of each layer where layers train in order."""

    seed: int = 0
    """Of the initialisation, the split of the text and the order of its tokens."""

    learning_rate: float | int = 3e-3
    """Peak of the schedule, of a factor whose products sum over at most 32 columns; it falls with rank and components
    beyond (npt_viz.training.step_sizes)."""

    warmup: int = 50
    """Steps of linear warm-up."""

    schedule: str = SCHEDULES[0]
    """After the warm-up: cosine (decay to a hundredth of the peak) or constant."""

    batch_tokens: int = 256
    """Tokens of a batch; losses on logits take whole sequences until there are as many."""

    accumulate: int = 1
    """Batches a step; their gradients are averaged."""

    weight_decay: float | int = 0.0
    """AdamW's decoupled weight decay."""

    clip: float | int = 1.0
    """Largest gradient norm of one layer's adapter."""

    evaluate_every: int = 250
    """Steps between evaluations on held-out tokens; the last step is always evaluated."""

    whole_sequences: bool = False
    """Batches of whole sequences also where no loss needs them: the same text as arms of an experiment that do."""

    cosines_every: int = 10
    """Steps between measurements of the cosines between the losses' gradients."""

    stream: str = STREAMS[0]
    """What a layer sees. base: the base model's activations; layers do not influence each other. in_order: one layer
    after the other, each on the stream that the trained layers below it make, captured anew (self-correcting).
    end_to_end: all at once, each on the stream that the layers below make now."""

    autocast: bool | None = None
    """bfloat16 for the products of the modulated MLP and the layers above; None: where the adapter is on a GPU."""

    positions: Positions = "deployed"
    """Positions of the captured activations: deployed (RoPE) or trained (none, as the public code did)."""

    def __post_init__(self):
        lowest = {"steps": 1, "accumulate": 1, "evaluate_every": 1, "cosines_every": 1, "batch_tokens": 8}
        for name, least in lowest.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise NptVizError(f"{name} must be a whole number of at least {least}, got {value}")
        if self.schedule not in SCHEDULES:
            raise NptVizError(f"schedule {self.schedule!r} does not exist; choose {' or '.join(SCHEDULES)}")
        if self.stream not in STREAMS:
            raise NptVizError(f"stream {self.stream!r} does not exist; choose among {', '.join(STREAMS)}")
        if not 0 < self.learning_rate < 10:
            raise NptVizError(f"learning_rate must lie between 0 and 10, got {self.learning_rate}")
        if not (self.warmup >= 0 and 0 <= self.weight_decay < math.inf and self.clip > 0):
            raise NptVizError(
                "warmup and weight_decay must be finite and not negative and clip must be positive, got "
                f"{self.warmup}, {self.weight_decay} and {self.clip}"
            )
        check_positions(self.positions)

"""Settings of an adapter to be trained and of the training."""

import math
from dataclasses import dataclass, field

from npt_viz.adapter import TARGETS, LayerAdapter, Semantics, random_adapter
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel

INITIALISATIONS = ("attention", "improved", "conservative", "uniform")
STREAMS = ("base", "in_order", "end_to_end")


@dataclass(frozen=True, kw_only=True)
class AdapterSpec:
    """The adapters of a fresh NPT model: the same form in every one of its layers."""

    layers: tuple[int, ...]
    """Which layers of the base model become NPT layers."""

    targets: tuple[str, ...] = ("gate", "up")
    """Which projections are modulated: some of TARGETS."""

    rank: int = 64
    """Width r of the bottleneck; at most d_model."""

    components: int = 1
    """Rank-1 updates a token and projection (k, num_ranks)."""

    semantics: Semantics = field(default_factory=Semantics)
    """The forward pass."""

    initialisation: str = "attention"
    """attention (from the attention output, changes nothing yet), or a published scheme: improved, conservative,
    uniform (see npt_viz.training.published)."""

    def __post_init__(self):
        if not self.layers:
            raise NptVizError("no layer to train: name at least one, for example --layers 15")
        if len(set(self.layers)) != len(self.layers):
            named = ",".join(map(str, self.layers))
            raise NptVizError(f"layers {named} name one layer twice; name each once")
        if not self.targets or set(self.targets) - set(TARGETS):
            wrong = next(iter(t for t in self.targets if t not in TARGETS), None)
            problem = "no target is named" if wrong is None else f"target {wrong!r} does not exist"
            raise NptVizError(f"{problem}; choose one or more of {', '.join(TARGETS)}")
        if self.semantics.rule != "rank_one_sum" and self.targets != ("gate",):
            raise NptVizError(f"rule {self.semantics.rule} modulates the gate alone; use the target gate")
        if self.initialisation not in INITIALISATIONS:
            raise NptVizError(
                f"initialisation {self.initialisation!r} does not exist; choose among {', '.join(INITIALISATIONS)}"
            )
        if self.initialisation != "attention" and self.semantics.rule != "rank_one_sum":
            raise NptVizError(
                f"initialisation {self.initialisation} is made for rule rank_one_sum, not {self.semantics.rule}; "
                "use initialisation attention"
            )
        if self.rank < 1 or self.components < 1:
            raise NptVizError(
                f"rank and components must be at least 1, got rank {self.rank} and {self.components} components"
            )

    def fits(self, model: BaseModel) -> None:
        """Raise where this spec cannot be built on the model."""
        for layer in self.layers:
            model.parts(layer)
        if self.rank > model.d_model:
            raise NptVizError(
                f"rank {self.rank} is more than d_model {model.d_model} of {model.name}; "
                f"choose at most {model.d_model}"
            )
        if self.components * self.rank > model.d_ffn:
            raise NptVizError(
                f"{self.components} components of rank {self.rank} are more than d_ffn {model.d_ffn} of "
                f"{model.name}; choose components x rank of at most {model.d_ffn}"
            )

    def blank(self, model: BaseModel, layer: int, *, seed: int) -> LayerAdapter:
        """An adapter of this shape with small random weights, to be initialised."""
        return random_adapter(
            layer,
            self.semantics,
            self.targets,
            d_model=model.d_model,
            d_ffn=model.d_ffn,
            rank=self.rank,
            components=self.components if self.semantics.rule == "rank_one_sum" else 1,
            std=0.02,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, apart from the losses and the text."""

    steps: int
    """Optimiser steps; of each layer where layers train in order."""

    seed: int = 0
    """Of the initialisation and of the order of tokens."""

    learning_rate: float = 3e-3
    """Peak of the schedule."""

    warmup: int = 50
    """Steps of linear warm-up."""

    schedule: str = "cosine"
    """After the warm-up: cosine (decay to a hundredth of the peak) or constant."""

    batch_tokens: int = 256
    """Tokens of a batch; losses on logits take whole sequences until there are as many."""

    accumulate: int = 1
    """Batches a step; their gradients are averaged."""

    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""

    clip: float = 1.0
    """Largest gradient norm of one layer's adapter."""

    evaluate_every: int = 250
    """Steps between evaluations on held-out tokens; the last step is always evaluated."""

    whole_sequences: bool = False
    """Batches of whole sequences also where no loss needs them: the same text as arms of an experiment that do."""

    cosines_every: int = 10
    """Steps between measurements of the cosines between the losses' gradients."""

    stream: str = "base"
    """What a layer sees. base: the base model's activations; layers do not influence each other. in_order: one layer
    after the other, each on the stream that the trained layers below it make, captured anew (self-correcting).
    end_to_end: all at once, each on the stream that the layers below make now."""

    autocast: bool | None = None
    """bfloat16 for the products of the modulated MLP and the layers above; None: where the adapter is on a GPU."""

    positions: str = "deployed"
    """Positions of the captured activations: deployed (RoPE) or trained (none, as the public code did)."""

    def __post_init__(self):
        for name in ("steps", "accumulate", "evaluate_every", "cosines_every"):
            if getattr(self, name) < 1:
                raise NptVizError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_tokens < 8:
            raise NptVizError(f"batch_tokens must be at least 8, got {self.batch_tokens}")
        if self.schedule not in ("cosine", "constant"):
            raise NptVizError(f"schedule {self.schedule!r} does not exist; choose cosine or constant")
        if self.stream not in STREAMS:
            raise NptVizError(f"stream {self.stream!r} does not exist; choose among {', '.join(STREAMS)}")
        if not 0 < self.learning_rate < 10:
            raise NptVizError(f"learning_rate must lie between 0 and 10, got {self.learning_rate}")
        if not (self.warmup >= 0 and 0 <= self.weight_decay < math.inf and self.clip > 0):
            raise NptVizError(
                "warmup and weight_decay must be finite and not negative and clip must be positive, got "
                f"{self.warmup}, {self.weight_decay} and {self.clip}"
            )
        if self.positions not in ("deployed", "trained"):
            raise NptVizError(f"positions {self.positions!r} do not exist; choose deployed or trained")

"""Settings of the adapters to be trained."""

from dataclasses import dataclass, field

from npt_viz.adapter import TARGETS, LayerAdapter, Semantics, random_adapter
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.training.recipe import FRESH_COMPONENTS, FRESH_RANK, FRESH_TARGETS, INITIALISATIONS


@dataclass(frozen=True, kw_only=True)
class AdapterSpec:
    """The adapters of a fresh NPT model: the same form in every one of its layers."""

    layers: tuple[int, ...]
    """Which layers of the base model become NPT layers."""

    targets: tuple[str, ...] = FRESH_TARGETS
    """Which projections are modulated: some of TARGETS."""

    rank: int = FRESH_RANK
    """Width r of the bottleneck; at most d_model."""

    components: int = FRESH_COMPONENTS
    """Rank-1 updates a token and projection (k, num_ranks)."""

    semantics: Semantics = field(default_factory=Semantics)
    """The forward pass."""

    initialisation: str = INITIALISATIONS[0]
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
        if len(set(self.targets)) != len(self.targets):
            raise NptVizError(f"targets {','.join(self.targets)} name one target twice; name each once")
        if not isinstance(self.rank, int) or not isinstance(self.components, int):
            raise NptVizError(
                f"rank and components are whole numbers, got {self.rank!r} and {self.components!r}; give whole numbers"
            )
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

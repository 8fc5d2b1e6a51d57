"""Settings of the adapters to be trained: which variant, of which size, and which of them can be trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, cast

from npt_viz.adapter import (
    TARGETS,
    VARIANTS,
    LayerAdapter,
    Semantics,
    Target,
    Variant,
    random_adapter,
    variant_name,
)
from npt_viz.adapter.semantics import AttentionPath
from npt_viz.arguments import checked_fields
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.training.recipe import (
    FRESH_COMPONENTS,
    FRESH_RANK,
    FRESH_TARGETS,
    FRESH_VARIANT,
    INITIALISATIONS,
)

ATTENTION_PATHS: tuple[AttentionPath, ...] = ("withheld", "beside")
"""Those that a rank-1 sum can be trained with; the other rules have that of their variant."""


def takes_any_target(semantics: Semantics) -> bool:
    """Whether up and down can be modulated too, by several components a token; the other rules have the gate alone."""
    return semantics.rule == "rank_one_sum"


def why_untrainable(semantics: Semantics) -> str | None:
    """Reason, with the way out, why nothing can be learned with these semantics; None where something can."""
    if semantics.attention == "standard":
        return (
            "attention keeps its standard path (out = h + a + MLP'(z_C)), where the base model's output is there "
            "without any modulation: the target is met before the first step, and there is nothing to learn; choose a "
            "variant that withholds attention from the stream or from the MLP"
        )
    if semantics.rule == "low_rank_pooled":
        return (
            "its weight change is made from the mean attention of a whole text, tokens to come included, and training "
            "takes tokens one by one; choose S0 or T1, whose change is each token's own"
        )
    return None


def trainable() -> tuple[str, ...]:
    """Names of the variants that can be trained, in the order of VARIANTS."""
    return tuple(name for name, variant in VARIANTS.items() if why_untrainable(variant.semantics) is None)


def variant_of(name: str) -> Variant:
    """A published variant by its name, in any case; raises NptVizError for one that does not exist."""
    known = {each.lower(): each for each in VARIANTS}
    if name.lower() not in known:
        longer = [known[each] for each in known if name and each.startswith(name.lower())]
        close = longer[:3] or [known[each] for each in get_close_matches(name.lower(), known, n=3)]
        meant = f"did you mean {' or '.join(close)}? The variants are" if close else "choose one of"
        raise NptVizError(f"variant {name!r} does not exist; {meant} {', '.join(VARIANTS)}")
    return VARIANTS[known[name.lower()]]


@checked_fields
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
    """Rank-1 updates a token and projection (k, num_ranks); any number: components x rank may be more than d_ffn."""

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
        if not takes_any_target(self.semantics) and self.targets != ("gate",):
            raise NptVizError(f"rule {self.semantics.rule} modulates the gate alone; use the target gate")
        if not takes_any_target(self.semantics) and self.components != 1:
            raise NptVizError(
                f"rule {self.semantics.rule} has no components, got {self.components}; leave components at 1 and choose "
                "the rank"
            )
        if not math.isfinite(self.semantics.scale) or self.semantics.scale == 0:
            raise NptVizError(
                f"scale must be a finite number other than 0, got {self.semantics.scale}; 1 leaves the modulation as it is"
            )
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

    @classmethod
    def of_variant(
        cls,
        name: str | None,
        layers: Sequence[int],
        *,
        targets: Sequence[str] | None = None,
        attention: str | None = None,
        scale: float | int | None = None,
        **sizes: Any,
    ) -> "AdapterSpec":
        """Spec of a published variant; what is named beside it replaces the variant's own.

        name: as in VARIANTS; FRESH_VARIANT by default.
        attention: withheld or beside, of a rank-1 sum.
        scale: `modulation_scale`.
        sizes: rank, components, initialisation.

        Raises NptVizError for a variant that does not exist, and what it cannot have.
        """
        variant = variant_of(name or FRESH_VARIANT)
        semantics = variant.semantics
        if attention is not None and attention != semantics.attention:
            if attention not in ATTENTION_PATHS or not takes_any_target(semantics):
                paths = ATTENTION_PATHS if takes_any_target(semantics) else (semantics.attention,)
                raise NptVizError(f"variant {name}: attention {attention!r} is not among {', '.join(paths)}")
            semantics = replace(semantics, attention=attention)
        if scale is not None:
            semantics = replace(semantics, scale=float(scale))
        return cls(
            layers=tuple(layers),
            targets=tuple(variant.targets if targets is None else targets),
            semantics=semantics,
            **sizes,
        )

    @property
    def variant(self) -> str:
        """Short name of the published variant, such as N4; a description where there is none."""
        return variant_name(self.semantics, cast(tuple[Target, ...], self.targets))

    def fits(self, model: BaseModel) -> None:
        """Raise where this spec cannot be built on the model, or where there is nothing to learn."""
        if reason := why_untrainable(self.semantics):
            raise NptVizError(f"variant {self.variant}: {reason}")
        for layer in self.layers:
            model.parts(layer)
        if self.rank > model.d_model:
            raise NptVizError(
                f"rank {self.rank} is more than d_model {model.d_model} of {model.name}; "
                f"choose at most {model.d_model}"
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
            components=self.components,
            std=0.02,
            seed=seed,
        )

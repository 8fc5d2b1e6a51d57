"""Semantics of an NPT layer: the settings that tell the published variants apart."""

from dataclasses import dataclass
from typing import Literal

from npt_viz.errors import NptVizError

Target = Literal["gate", "up", "down"]
TARGETS: tuple[Target, ...] = ("gate", "up", "down")

Rule = Literal["rank_one_sum", "additive", "additive_multiplicative", "low_rank_tanh"]
AttentionPath = Literal["withheld", "beside", "standard"]
Factor = Literal["one_plus_sigmoid", "one_plus_tanh", "half_sigmoid"]
Provenance = Literal["from the file", "inferred from key names", "chosen by the user", "probe"]


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """Forward pass of one NPT layer, apart from its weights and targets."""

    rule: Rule = "rank_one_sum"
    """How the adapter turns attention into a modulation.

    rank_one_sum: projection(x) + scale * sum_j v_b,j (v_a,j . x)
    additive: gate + scale * B_add(A a)
    additive_multiplicative: gate * factor(B_mult(A a)) + scale * B_add(A a)
    low_rank_tanh: gate + ((z A) * c) B with c = scale * tanh(a A)
    """

    attention: AttentionPath = "withheld"
    """Where the attention output goes beside the adapter.

    withheld: nowhere; out = h + MLP'(z)
    beside: added after the MLP, which does not see it; out = h + a + MLP'(z)
    standard: as in the base model; out = h + a + MLP'(z_C)
    """

    scale: float = 1.0
    """Factor on the modulation (`modulation_scale`; inside c for low_rank_tanh)."""

    factor: Factor | None = None
    """Only for additive_multiplicative: 1 + sigmoid(x), 1 + tanh(x), or 0.5 sigmoid(x) + 0.5."""

    def __post_init__(self) -> None:
        if (self.factor is not None) != (self.rule == "additive_multiplicative"):
            raise NptVizError(
                f"semantics: factor goes with rule additive_multiplicative and only with it, "
                f"got rule {self.rule!r} and factor {self.factor!r}; set both or neither"
            )

    @property
    def reconstructs(self) -> str:
        """Output that the modulated MLP needs for the layer to equal the base model's layer."""
        return "a + MLP(z_C)" if self.attention == "withheld" else "MLP(z_C)"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One published variant."""

    semantics: Semantics
    targets: tuple[Target, ...]
    summary: str


_S1: Rule = "additive_multiplicative"
VARIANTS: dict[str, Variant] = {
    "N1": Variant(semantics=Semantics(), targets=("gate",), summary="single"),
    "N2": Variant(semantics=Semantics(attention="beside"), targets=("gate",), summary="single + residual"),
    "N3": Variant(semantics=Semantics(attention="beside"), targets=("gate", "up"), summary="dual + residual"),
    "N4": Variant(semantics=Semantics(), targets=("gate", "up"), summary="dual"),
    "N5": Variant(semantics=Semantics(), targets=TARGETS, summary="triple"),
    "S0": Variant(
        semantics=Semantics(rule="additive", attention="standard"),
        targets=("gate",),
        summary="additive",
    ),
    "S1-design": Variant(
        semantics=Semantics(rule=_S1, factor="one_plus_sigmoid"),
        targets=("gate",),
        summary="additive + multiplicative, factor 1 + sigmoid(x)",
    ),
    "S1-early": Variant(
        semantics=Semantics(rule=_S1, factor="one_plus_tanh"),
        targets=("gate",),
        summary="additive + multiplicative, factor 1 + tanh(x)",
    ),
    "S1-later": Variant(
        semantics=Semantics(rule=_S1, factor="half_sigmoid", scale=0.1),
        targets=("gate",),
        summary="additive + multiplicative, factor 0.5 sigmoid(x) + 0.5, 0.1 * add",
    ),
    "S1-design+residual": Variant(
        semantics=Semantics(rule=_S1, factor="one_plus_sigmoid", attention="standard"),
        targets=("gate",),
        summary="S1-design with the standard residuals",
    ),
    "S1-early+residual": Variant(
        semantics=Semantics(rule=_S1, factor="one_plus_tanh", attention="standard"),
        targets=("gate",),
        summary="S1-early with the standard residuals",
    ),
    "S1-later+residual": Variant(
        semantics=Semantics(rule=_S1, factor="half_sigmoid", scale=0.1, attention="standard"),
        targets=("gate",),
        summary="S1-later with the standard residuals",
    ),
    "S2": Variant(semantics=Semantics(scale=0.1), targets=("gate",), summary="rank-1, scaled (0.1)"),
    "T1": Variant(semantics=Semantics(rule="low_rank_tanh"), targets=("gate",), summary="low-rank, tanh"),
}
"""Every variant seen in the wild. The scale of S2 and T1 is the file's where the file has one."""


def variant_name(semantics: Semantics, targets: tuple[Target, ...]) -> str:
    """Short name of a published variant, such as N1; a description where there is none."""
    for name, variant in VARIANTS.items():
        same = (variant.semantics.rule, variant.semantics.attention, variant.semantics.factor) == (
            semantics.rule,
            semantics.attention,
            semantics.factor,
        )
        scaled = semantics.rule == "rank_one_sum" and semantics.scale != 1.0
        if same and variant.targets == tuple(targets) and scaled == (name == "S2"):
            return name
    return f"{'+'.join(targets)}, attention {semantics.attention}"

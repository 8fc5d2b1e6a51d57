"""Semantics of an NPT layer: the settings that tell the published variants apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from npt_viz.errors import NptVizError

Target = Literal["gate", "up", "down"]
TARGETS: tuple[Target, ...] = ("gate", "up", "down")

Rule = Literal[
    "rank_one_sum",
    "additive",
    "multiplicative",
    "additive_multiplicative",
    "low_rank_tanh",
    "low_rank_pooled",
]
AttentionPath = Literal["withheld", "beside", "standard", "mlp_only"]
Factor = Literal["one_plus_sigmoid", "one_plus_tanh", "half_sigmoid"]
WITH_FACTOR: tuple[Rule, ...] = ("multiplicative", "additive_multiplicative")
Provenance = Literal["from the file", "inferred from key names", "chosen by the user", "probe"]


def mlp_reads_attention(path: str) -> bool:
    """Whether the MLP of a layer with this AttentionPath reads z_C = norm(h + a), not z = norm(h)."""
    return path in ("standard", "mlp_only")


def stream_keeps_attention(path: str) -> bool:
    """Whether a layer with this AttentionPath adds a to the stream, so that its MLP need not write it."""
    return path in ("standard", "beside")


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """Forward pass of one NPT layer, apart from its weights and targets."""

    rule: Rule = "rank_one_sum"
    """How the adapter turns attention into a modulation.

    rank_one_sum: projection(x) + scale * sum_j v_b,j (v_a,j . x)
    additive: gate + scale * B_add(A a)
    multiplicative: gate * factor(B_mult(A a))
    additive_multiplicative: gate * factor(B_mult(A a)) + scale * B_add(A a)
    low_rank_tanh: gate + ((z A) * c) B with c = scale * tanh(a A)
    low_rank_pooled: the same with c = scale * (ā A), ā the mean of a over all tokens of the text: not causal
    """

    attention: AttentionPath = "withheld"
    """Where the attention output goes beside the adapter.

    withheld: nowhere; out = h + MLP'(z)
    beside: added after the MLP, which does not see it; out = h + a + MLP'(z)
    standard: as in the base model; out = h + a + MLP'(z_C)
    mlp_only: into the MLP's input and nowhere else; out = h + MLP'(z_C)
    """

    scale: float = 1.0
    """Factor on the modulation (`modulation_scale`; inside c for low_rank_tanh)."""

    factor: Factor | None = None
    """Only for the rules with a factor: 1 + sigmoid(x), 1 + tanh(x), or 0.5 sigmoid(x) + 0.5."""

    def __post_init__(self) -> None:
        if (self.factor is not None) != (self.rule in WITH_FACTOR):
            raise NptVizError(
                f"semantics: factor goes with the rules {' and '.join(WITH_FACTOR)} and only with them, "
                f"got rule {self.rule!r} and factor {self.factor!r}; set both or neither"
            )

    @property
    def reconstructs(self) -> str:
        """Output that the modulated MLP needs for the layer to equal the base model's layer."""
        return "MLP(z_C)" if stream_keeps_attention(self.attention) else "a + MLP(z_C)"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One published variant."""

    semantics: Semantics
    targets: tuple[Target, ...]
    summary: str


def _gate_only(summary: str, **semantics: Any) -> Variant:
    return Variant(semantics=Semantics(**semantics), targets=("gate",), summary=summary)


_RECIPES: dict[str, tuple[Factor, float, str]] = {
    "design": ("one_plus_sigmoid", 1.0, "1 + sigmoid(x)"),
    "early": ("one_plus_tanh", 1.0, "1 + tanh(x)"),
    "later": ("half_sigmoid", 0.1, "0.5 sigmoid(x) + 0.5"),
}
"""Recipe of S1 -> factor, scale of the added part, the factor in words."""


def _s1() -> Iterator[tuple[str, Variant]]:
    """S1 in every recipe, whole or with one of its parts, without and with the standard residuals."""
    for suffix, path in (("", "withheld"), ("+residual", "standard")):
        residuals = " with the standard residuals" if suffix else ""
        for recipe, (factor, scale, words) in _RECIPES.items():
            added = "" if scale == 1.0 else f", {scale:g} * add"
            yield (
                f"S1-{recipe}{suffix}",
                _gate_only(
                    f"additive + multiplicative, factor {words}{added}{residuals}",
                    rule="additive_multiplicative",
                    factor=factor,
                    scale=scale,
                    attention=path,
                ),
            )
            yield (
                f"S1-mult-{recipe}{suffix}",
                _gate_only(
                    f"multiplicative only, factor {words}{residuals}",
                    rule="multiplicative",
                    factor=factor,
                    attention=path,
                ),
            )
        yield (
            f"S1-add{suffix}",
            _gate_only(f"additive only, 0.1 * add{residuals}", rule="additive", scale=0.1, attention=path),
        )


VARIANTS: dict[str, Variant] = {
    "N1": _gate_only("single"),
    "N2": _gate_only("single + residual", attention="beside"),
    "N3": Variant(semantics=Semantics(attention="beside"), targets=("gate", "up"), summary="dual + residual"),
    "N4": Variant(semantics=Semantics(), targets=("gate", "up"), summary="dual"),
    "N5": Variant(semantics=Semantics(), targets=TARGETS, summary="triple"),
    "S0": _gate_only(
        "additive; attention enters the MLP's input and is not added (public code at ed740ce)",
        rule="additive",
        attention="mlp_only",
    ),
    "S0-pooled": _gate_only(
        "one low-rank weight change for the whole text, from its mean attention (public code at fa8c51e)",
        rule="low_rank_pooled",
    ),
    "S0-residual": _gate_only(
        "additive with the standard residuals (design document)", rule="additive", attention="standard"
    ),
    **dict(_s1()),
    "S2": _gate_only("rank-1, scaled (0.1)", scale=0.1),
    "T1": _gate_only("low-rank, tanh", rule="low_rank_tanh"),
}
"""Every variant seen in the wild. The scale of S2 and T1 is the file's where the file has one."""


def variant_name(semantics: Semantics, targets: tuple[Target, ...]) -> str:
    """Short name of a published variant, such as N1; a description where there is none."""
    for name, variant in VARIANTS.items():
        published = variant.semantics
        same = (published.rule, published.attention, published.factor) == (
            semantics.rule,
            semantics.attention,
            semantics.factor,
        )
        if same and variant.targets == tuple(targets) and _same_scale(published, semantics):
            return name
    return f"{'+'.join(targets)}, attention {semantics.attention}"


def _same_scale(published: Semantics, semantics: Semantics) -> bool:
    if published.rule == "rank_one_sum":  # A file of S2 may have any scale but 1, which is N1.
        return (published.scale == 1.0) == (semantics.scale == 1.0)
    return published.rule != "additive" or published.scale == semantics.scale

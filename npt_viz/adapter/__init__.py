"""NPT adapters: variants (semantics), weights and mathematics (modulation), one layer's adapter (layer)."""

from npt_viz.adapter.layer import LayerAdapter, MlpTrace, Projected, mlp_trace, projection, random_adapter
from npt_viz.adapter.modulation import Additive, LowRankTanh, Modulation, RankOneSum
from npt_viz.adapter.semantics import TARGETS, VARIANTS, Semantics, Target, Variant, variant_name

__all__ = [
    "TARGETS",
    "VARIANTS",
    "Additive",
    "LayerAdapter",
    "LowRankTanh",
    "MlpTrace",
    "Projected",
    "Modulation",
    "RankOneSum",
    "Semantics",
    "Target",
    "Variant",
    "mlp_trace",
    "projection",
    "random_adapter",
    "variant_name",
]

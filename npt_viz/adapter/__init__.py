"""NPT adapters: variants (semantics), weights and mathematics (modulation), one layer's adapter (layer)."""

from npt_viz.adapter.layer import (
    LayerAdapter,
    MlpTrace,
    Projected,
    mlp_trace,
    pooled_over,
    projection,
    random_adapter,
)
from npt_viz.adapter.modulation import (
    NOT_CAUSAL,
    Additive,
    LowRank,
    LowRankPooled,
    LowRankTanh,
    Modulation,
    RankOneSum,
)
from npt_viz.adapter.semantics import (
    TARGETS,
    VARIANTS,
    Semantics,
    Target,
    Variant,
    mlp_reads_attention,
    stream_keeps_attention,
    variant_name,
)

__all__ = [
    "NOT_CAUSAL",
    "TARGETS",
    "VARIANTS",
    "Additive",
    "LayerAdapter",
    "LowRank",
    "LowRankPooled",
    "LowRankTanh",
    "MlpTrace",
    "Projected",
    "Modulation",
    "RankOneSum",
    "Semantics",
    "Target",
    "Variant",
    "mlp_reads_attention",
    "mlp_trace",
    "pooled_over",
    "projection",
    "random_adapter",
    "stream_keeps_attention",
    "variant_name",
]

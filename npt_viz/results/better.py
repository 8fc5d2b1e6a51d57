"""When another way to use an adapter fits clearly better than the adapter as it is: one rule for probe, health and pages."""

from collections.abc import Mapping
from typing import Literal

from npt_viz.results.estimate import Estimate

Kind = Literal["as it is", "sign", "size", "swapped", "layer", "positions", "reading"]

FITS = 0.05
"""Share that an alternative must recover, at the low end of its interval, to be what the adapter fits."""

FITS_IN_PART = 0.2
"""The same for a way that changes one target or exchanges parts: dozens are tried, and weights that mean nothing in their layer
find one that recovers up to 0.18 (shuffled v_b, weights of another base)."""

NO_SHARE = 0.05
"""An interval that ends below this share says that nothing worth a word is recovered, whether or not a cause is known."""

MARGINS: Mapping[Kind, float] = {
    "sign": 0.005,
    "size": 0.05,
    "swapped": 0.005,
    "layer": 0.05,
    "positions": 0.2,
    "reading": 0.1,
}
"""By how much more a way must recover than the adapter as it is. Attention without RoPE is simpler, so healthy adapters
fit it up to 0.15 better; their best size is not exactly 1; a turned sign and exchanged parts cost every healthy one something (docs/health.md)."""

AT_HOME = 0.25
"""Another layer is where an adapter belongs only where its own recovers less than this share of what that one does: in
layer 0, whose attention is simple, healthy adapters of other layers can do twice as well as at home."""

HARDLY_DEPLOYED = 0.4
"""Where the deployed layer recovers less than this share of what it recovers without RoPE, half the margin is enough:
healthy layers that recover little have 0.5 or more (SmolLM2-135M, layer 23), layers trained without RoPE 0.3 or less."""

NEARLY_ALL = 0.2
"""A way that leaves less than this share of what the adapter leaves as it is fits better, however little that is."""


def is_better(kind: Kind, own: Estimate, other: Estimate, gain: Estimate, *, in_part: bool = False) -> bool:
    """Whether the other way fits clearly better: by the margin of its kind, or by nearly all that was left.

    own, other: median share recovered, as it is and in the other way; gain: median of their differences over the same
    tokens, with the interval that decides (estimate.DECIDING). in_part: the way is about one target alone.
    """
    if other.low <= (FITS_IN_PART if in_part or kind == "swapped" else FITS):
        return False
    if kind == "layer" and own.high > AT_HOME * other.low:
        return False
    nearly_all = 1 - other.low < NEARLY_ALL * (1 - own.high)
    hardly = kind == "positions" and own.high < HARDLY_DEPLOYED * other.low
    return gain.low > MARGINS[kind] * (0.5 if hardly else 1) or (nearly_all and gain.low > 0)


def may_be_better(
    kind: Kind, own: Estimate, other: Estimate, gain: Estimate, *, in_part: bool = False
) -> bool:
    """Whether these tokens leave room for "better" without showing it: then an absence must not be reported."""
    room = [
        Estimate(end, end, end, each.n)
        for end, each in ((own.low, own), (other.high, other), (gain.high, gain))
    ]
    return is_better(kind, *room, in_part=in_part) and not is_better(kind, own, other, gain, in_part=in_part)

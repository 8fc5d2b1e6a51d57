"""Step sizes of an adapter's factors, relative to the learning rate."""

from npt_viz.adapter import Additive, LayerAdapter, LowRank, Modulation, RankOneSum
from npt_viz.shapes import Tensor

FULL_STEP_WIDTH = 32
"""Number of summed columns up to which a factor takes the whole learning rate."""


def step_scales(modulation: Modulation) -> dict[str, float]:
    """Factor -> its step size as a share of the learning rate.

    A step of Adam moves every entry by about the learning rate, all in the direction that helps. What sums over n
    entries, a scalar over r and the output over r of each of k components, so moves n times as far: a factor whose
    product is such a sum takes steps that fall with n (docs/mathematics.md §11).
    """
    match modulation:
        case RankOneSum():
            r, k = modulation.rank, modulation.components
            return {"W_down": 1.0, "W_a_up": _of_sum(r), "W_b_up": _of_sum(r * k)}
        case Additive():
            return {"W_down": 1.0, "W_add": _of_sum(modulation.rank), "W_mult": _of_sum(modulation.rank)}
        case LowRank():
            return {"A": 1.0, "B": _of_sum(modulation.rank)}


def step_groups(adapter: LayerAdapter) -> dict[float, list[Tensor]]:
    """Step size as a share of the learning rate -> the parameters that take it."""
    groups: dict[float, list[Tensor]] = {}
    for modulation in adapter.learned.values():
        scales = step_scales(modulation)
        for name, parameter in modulation.named_parameters():
            groups.setdefault(scales[name], []).append(parameter)
    return groups


def _of_sum(n: int) -> float:
    return min(1.0, FULL_STEP_WIDTH / n)

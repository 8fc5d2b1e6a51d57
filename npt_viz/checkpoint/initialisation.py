"""Whether training has touched a tensor: exactly where its initial hash was recorded, by a named rule otherwise."""

import math

from torch import Tensor

_NORMAL_STDS = (0.001, 0.01, 0.02, 0.1)
_ENOUGH = 1000
"""Values below which a spread says nothing."""


def untouched_rule(tensor: Tensor) -> str | None:
    """The rule by which a tensor (float32, finite) looks untrained; None where no rule fires.

    constant: every value is the same, as no trained matrix is.
    nn.Linear's default: uniform within ±1/sqrt(fan_in); a trained tensor leaves that box.
    normal: mean 0, kurtosis 3 and a customary standard deviation, each within four standard errors.
    """
    low, high = float(tensor.min()), float(tensor.max())
    if low == high:
        return f"every value is {low:g}"
    n = tensor.numel()
    if n < _ENOUGH:
        return None
    # Float64: the fourth power of a million small values.
    values = tensor.double().flatten()
    centred = values - values.mean()
    std = float(centred.std(correction=0))
    kurtosis = float((centred**4).mean()) / std**4
    if abs(float(values.mean())) > 4 * std / math.sqrt(n):
        return None
    for fan_in in tensor.shape:
        bound = 1 / math.sqrt(fan_in)
        edge = bound * (1 - 20 / n)
        if edge < max(-low, high) <= bound * (1 + 1e-6) and abs(kurtosis - 1.8) < 4 * math.sqrt(2.5 / n):
            return f"uniform within ±1/sqrt({fan_in}), the default of nn.Linear"
    if abs(kurtosis - 3) < 4 * math.sqrt(24 / n):
        customary = (*_NORMAL_STDS, *(1 / math.sqrt(size) for size in tensor.shape))
        for wanted in customary:
            if abs(std / wanted - 1) < 4 / math.sqrt(2 * n):
                return f"normal with the customary standard deviation {wanted:.4g}"
    return None

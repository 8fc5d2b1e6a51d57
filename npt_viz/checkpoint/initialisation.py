"""Tests for untrained tensors, where no hash of the initial value was recorded."""

import math

import torch
from torch import Tensor

_NORMAL_STDS = (0.001, 0.01, 0.02, 0.1)
_SAMPLE = 1 << 16
_ENOUGH = 1000
"""Fewer values than this are too few to judge a distribution by."""


def untouched_rule(tensor: Tensor, low: float, high: float) -> str | None:
    """Reason why a tensor (float32, finite) looks untrained; None where there is no such reason.

    low, high: its extremes.

    constant: every value is the same, as no trained matrix is.
    nn.Linear's default: uniform within ±1/sqrt(fan_in); a trained tensor leaves that box.
    normal: mean 0, kurtosis 3 and a customary standard deviation, each within four standard errors.
    """
    if low == high:
        return f"every value is {low:g}"
    if tensor.numel() < _ENOUGH:
        return None
    bound = max(-low, high)
    # A sample clears most trained tensors in a hundredth of the time.
    sample = tensor.flatten()[:: max(1, tensor.numel() // _SAMPLE)]
    if _spread_rule(sample, bound, tensor.shape) is None:
        return None
    return _spread_rule(tensor.flatten(), bound, tensor.shape)


def _spread_rule(values: Tensor, bound: float, shape: torch.Size) -> str | None:
    n = values.numel()
    # Float64: the fourth power of a million small values.
    values = values.double()
    mean = float(values.mean())
    centred = values - mean
    std = float(centred.std(correction=0))
    if abs(mean) > 4 * std / math.sqrt(n):
        return None
    kurtosis = float(centred.square().square().mean()) / std**4
    for fan_in in shape:
        edge = 1 / math.sqrt(fan_in)
        filled = edge * (1 - 20 / shape.numel()) < bound <= edge * (1 + 1e-6)
        if filled and abs(kurtosis - 1.8) < 4 * math.sqrt(2.5 / n):
            return f"uniform within ±1/sqrt({fan_in}), the default of nn.Linear"
    if abs(kurtosis - 3) < 4 * math.sqrt(24 / n):
        for wanted in (*_NORMAL_STDS, *(1 / math.sqrt(size) for size in shape)):
            if abs(std / wanted - 1) < 4 / math.sqrt(2 * n):
                return f"normal with the customary standard deviation {wanted:.4g}"
    return None

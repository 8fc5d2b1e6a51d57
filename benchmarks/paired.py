"""Time two functions in turn and report the ratio: machines are noisy, ratios of neighbours are not."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """Median over pairs of time(candidate) / time(baseline), with its range and both medians in seconds."""

    median: float
    low: float
    high: float
    candidate: float
    baseline: float

    def __str__(self) -> str:
        return (
            f"{self.median:8.3f}  ({self.low:.3f} to {self.high:.3f})   "
            f"{self.candidate * 1e3:9.1f} ms against {self.baseline * 1e3:9.1f} ms"
        )


def paired(candidate: Callable[[], object], baseline: Callable[[], object], *, pairs: int = 7) -> Ratio:
    """Run both once to warm up, then `pairs` times in turn."""
    times: list[tuple[float, float]] = []
    for _ in range(pairs + 1):
        row = []
        for function in (candidate, baseline):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            row.append(time.perf_counter() - start)
        times.append((row[0], row[1]))
    times = times[1:]
    ratios = [a / b for a, b in times]
    return Ratio(
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
    )


def machine() -> str:
    """One line for the head of a table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}"

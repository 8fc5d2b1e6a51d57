"""Numbers in words: the same on pages, in figures, in commands and in sentences."""

import math

from npt_viz.results.estimate import Estimate


def number(value: float) -> str:
    """Three significant digits as people write them: 0.0431, 12.4, 25,310, −3.1e-07."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size >= 1e7 or size < 1e-4:
        text = f"{size:.2g}" if size < 1e-4 else f"{size:.2e}"
    else:
        # What rounds to 1,000 is written so, and not 1e+03.
        text = f"{size:,.0f}" if size >= 999.5 else f"{size:.3g}"
    return f"−{text}" if value < 0 else text


ROUNDING_KL = 1e-7
"""Nats. A KL of two float32 computations that is smaller is their rounding, not what was changed."""


def nats(kl: float) -> str:
    """A KL: three digits, or that it is below what rounding does."""
    return f"below {ROUNDING_KL:.0e}" if 0 < kl < ROUNDING_KL else number(kl)


def percent(share: float) -> str:
    """41 %, −12 %; an en dash for NaN."""
    if not math.isfinite(share):
        return "–"
    whole = round(100 * share)
    return f"{'−' if whole < 0 else ''}{abs(whole)}\N{NO-BREAK SPACE}%"


def tenths(share: float) -> str:
    """41.3 %, for shares of a few percent."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%" if math.isfinite(share) else "–"


def interval(estimate: Estimate, form=percent) -> str:
    """[38 %, 44 %]; empty where the tokens are too few for one."""
    return f"[{form(estimate.low)}, {form(estimate.high)}]" if math.isfinite(estimate.low) else ""


def counted(n: int, word: str) -> str:
    """1 token, 1,022 tokens"""
    return f"{n:,} {word}{'s' * (n != 1)}"

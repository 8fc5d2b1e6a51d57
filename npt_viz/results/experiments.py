"""Result of an experiment: every arm and seed, and which differences are larger than chance between seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from npt_viz.results.estimate import sd
from npt_viz.results.health import Finding
from npt_viz.results.training import Alarm, Curves

if TYPE_CHECKING:
    import pandas

State = Literal["waiting", "running", "stopped", "finished", "failed"]
Verdict = Literal["reference", "better", "worse", "unclear", "the same", "one seed", "no number"]


class Measure(NamedTuple):
    """One number that a finished arm has."""

    label: str
    meaning: str
    better: Literal["higher", "lower"]


MEASURES: dict[str, Measure] = {
    "recovered": Measure(
        "share recovered",
        "median over held-out tokens, sinks left out, of 1 − ‖ŷ−target‖² / ‖MLP(z)−target‖², mean over layers; "
        "0 no modulation, 1 perfect",
        "higher",
    ),
    "relative_error": Measure(
        "relative error",
        "median over held-out tokens, sinks left out, of ‖ŷ−target‖ / ‖target‖, mean over layers",
        "lower",
    ),
    "median_kl": Measure(
        "KL, median", "KL(base ‖ NPT) of the next token on held-out text, median over tokens, nats", "lower"
    ),
    "mean_kl": Measure("KL, mean", "the same, mean over tokens", "lower"),
    "perplexity": Measure("perplexity", "of the NPT model on held-out text", "lower"),
    "agreement": Measure(
        "top-1 agreement", "share of tokens whose most probable next token is the base's", "higher"
    ),
    "sink_recovered": Measure("sinks recovered", "share recovered on attention sinks alone", "higher"),
}
"""Name -> how to read it."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One finished arm on the experiment's prompt; every array is (token,)."""

    tokens: tuple[str, ...]
    """Glyphs."""
    columns: Mapping[str, np.ndarray]
    """`kl`, and `15 recovered`, `15 scalar`, `15 update_norm` for layer 15."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """One training: an arm with a seed."""

    arm: str
    seed: int
    state: State
    done: int
    """Steps taken."""
    curves: Mapping[int, Curves]
    """Layer -> its numbers along the steps."""
    final: Mapping[str, float]
    """MEASURES, of a finished run; and `seconds`."""
    findings: tuple[Finding, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    strip: Strip | None = None
    error: str | None = None
    """Why it failed, in one sentence."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """`initial` weights, `batches` and `text`: equal for all arms of a seed."""
    checkpoint: str | None = None
    """Folder of its adapters."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm's number against the reference's."""

    arm: str
    values: tuple[float, ...]
    """By seed, of the runs that finished."""
    mean: float
    spread: float
    """Standard deviation over seeds; NaN for one."""
    difference: float
    """Mean over seeds of arm − reference, the same seed each time; NaN where they share none."""
    half_width: float
    """The difference is known to ± this, jointly for all arms at 95 %; NaN for one shared seed."""
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """An experiment, finished or not."""

    name: str
    arms: Mapping[str, str]
    """Name -> what it minimises, in a line."""
    seeds: tuple[int, ...]
    reference: str
    steps: int
    runs: tuple[ArmRun, ...]
    base: Mapping[str, float]
    """`perplexity` of the base and `off_median_kl`, `off_perplexity` of the same layers without modulation."""
    folder: str = ""
    setup: str = ""
    """What all arms have in common, in a line."""
    notes: tuple[str, ...] = ()

    def run(self, arm: str, seed: int) -> ArmRun | None:
        return next((run for run in self.runs if (run.arm, run.seed) == (arm, seed)), None)

    def of(self, arm: str) -> list[ArmRun]:
        """Its runs, by seed."""
        return [run for run in self.runs if run.arm == arm]

    @cached_property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({layer for run in self.runs for layer in run.curves}))

    @property
    def n_finished(self) -> int:
        return sum(run.state == "finished" for run in self.runs)

    @property
    def n_runs(self) -> int:
        return len(self.arms) * len(self.seeds)

    def numbers(self, arm: str, measure: str) -> dict[int, float]:
        """Seed -> the number, where there is one."""
        numbers = {
            run.seed: run.final.get(measure, math.nan) for run in self.of(arm) if run.state == "finished"
        }
        return {seed: value for seed, value in numbers.items() if math.isfinite(value)}

    def comparisons(self, measure: str) -> tuple[Comparison, ...]:
        """Every arm against the reference, on one measure.

        Differences are taken seed by seed, so that what the seeds share cancels. Their interval is Student's t over
        the seeds, at 1 − 0.05 / (number of arms compared) (Bonferroni): all intervals hold together in 95 of 100.
        """
        reference = self.numbers(self.reference, measure)
        others = max(1, len(self.arms) - 1)
        comparisons = []
        for arm in self.arms:
            own = self.numbers(arm, measure)
            differences = np.array([own[seed] - reference[seed] for seed in own if seed in reference])
            half_width = t_half_width(differences, 0.05 / others)
            difference = float(differences.mean()) if len(differences) else math.nan
            values = np.array(list(own.values()))
            comparisons.append(
                Comparison(
                    arm=arm,
                    values=tuple(own.values()),
                    mean=float(values.mean()) if len(values) else math.nan,
                    spread=sd(values),
                    difference=difference,
                    half_width=half_width,
                    verdict="reference"
                    if arm == self.reference
                    else _verdict(difference, half_width, MEASURES[measure].better),
                )
            )
        return tuple(comparisons)

    @property
    def is_fair(self) -> bool:
        """Whether the arms of every seed began with the same weights and saw the same batches."""
        return not self.unfair_seeds

    @property
    def unfair_seeds(self) -> list[int]:
        values: dict[tuple[int, str], set[str]] = {}
        for run in self.runs:
            if run.state == "finished":
                for what, value in run.fingerprints.items():
                    values.setdefault((run.seed, what), set()).add(value)
        return sorted({seed for (seed, _), distinct in values.items() if len(distinct) > 1})

    def to_frame(self) -> "pandas.DataFrame":
        """One row a run: arm, seed, state, steps, the measures, findings."""
        import pandas

        return pandas.DataFrame(
            [
                {
                    "arm": run.arm,
                    "losses": self.arms[run.arm],
                    "seed": run.seed,
                    "state": run.state,
                    "steps": run.done,
                }
                | {measure: run.final.get(measure, math.nan) for measure in MEASURES}
                | {"seconds": run.final.get("seconds", math.nan)}
                | {"findings": ", ".join(finding.rule for finding in run.findings), "error": run.error or ""}
                for run in self.runs
            ]
        )


def t_half_width(differences: Sequence[float] | np.ndarray, alpha: float) -> float:
    """Half the width of the two-sided 1 − alpha interval for a mean, by Student's t; NaN below two values."""
    n = len(differences)
    if n < 2:
        return math.nan
    return t_quantile(1 - alpha / 2, n - 1) * sd(differences) / math.sqrt(n)


@cache
def t_quantile(p: float, freedom: int) -> float:
    """The p-quantile of Student's t, p >= 0.5, to about 1e-6 relative.

    With t = √ν tan θ the density becomes cos(θ)^(ν−1) on [0, π/2): summed on a grid, inverted by interpolation.
    """
    theta = np.linspace(0.0, math.pi / 2, 200_001)
    density = np.cos(theta) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(2 * p - 1, below / below[-1], theta)))


def _verdict(difference: float, half_width: float, better: str) -> Verdict:
    if math.isnan(difference):
        return "no number"
    if math.isnan(half_width):
        return "one seed"
    if difference == half_width == 0:
        return "the same"
    if abs(difference) <= half_width:
        return "unclear"
    return "better" if (difference > 0) == (better == "higher") else "worse"

"""What is wrong with a checkpoint: findings as data, each with the numbers that say so and what to do about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

from npt_viz.results.probe import LayerProbe
from npt_viz.results.shown import Shown

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first. error: do not use or trust it as it is; warning: it could be clearly better; info: good to know."""


class RuleInfo(NamedTuple):
    """What a rule looks for, and the page that shows its evidence."""

    title: str
    page: str


RULES: dict[str, RuleInfo] = {
    "not_finite": RuleInfo("a value is NaN or infinite", "home"),
    "wrong_base": RuleInfo("made for another base model", "home"),
    "left_over": RuleInfo("tensors that nothing uses", "home"),
    "nothing_loaded": RuleInfo("the modulation adds nothing", "home"),
    "untrained": RuleInfo("tensors as training began", "home"),
    "wrong_layer": RuleInfo("fits another layer", "home"),
    "vanishing": RuleInfo("the modulation is too small to matter", "directions"),
    "scalar_constant": RuleInfo("the scalar is a constant", "directions"),
    "direction_collapsed": RuleInfo("one direction for all tokens", "directions"),
    "sign_flipped": RuleInfo("fits with its sign turned", "home"),
    "swapped": RuleInfo("fits with parts exchanged", "home"),
    "wrong_size": RuleInfo("right direction, wrong size", "home"),
    "objective_mismatch": RuleInfo("fits another reading", "home"),
    "trained_without_rope": RuleInfo("trained without RoPE", "reconstruction"),
    "ambiguous": RuleInfo("fits something else, undecided what", "home"),
    "worse_than_nothing": RuleInfo("further from its target than no modulation", "reconstruction"),
    "recovers_nothing": RuleInfo("recovers nothing", "reconstruction"),
    "parity": RuleInfo("cannot tell a from −a", "reconstruction"),
    "broken_downstream": RuleInfo("good local error, broken predictions", "reconstruction"),
    "sink_dominates": RuleInfo("attention sinks dominate the mean", "reconstruction"),
    "rank_floor": RuleInfo("as good as its shape allows", "reconstruction"),
    "undertrained": RuleInfo("its shape allows more", "reconstruction"),
}
"""Every rule, in the order in which a person would look: in another layer, a modulation vanishes or is a constant as a consequence."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Finding of one rule."""

    rule: str
    """A key of RULES."""
    severity: Severity
    layer: int | None
    """None where it concerns the file or the whole NPT model."""
    evidence: Mapping[str, float]
    """What was measured, by name; shares lie between 0 and 1."""
    meaning: str
    """What that means, in a sentence or two."""
    action: str
    """What to try, in a sentence."""

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f"{self.rule} is no rule")

    @property
    def title(self) -> str:
        return RULES[self.rule].title

    @property
    def page(self) -> str:
        """Which page shows the evidence."""
        return RULES[self.rule].page


@dataclass(frozen=True, kw_only=True)
class HealthReport(Shown):
    """Findings of all rules, the worst first."""

    model: str
    checkpoint: str
    layers: tuple[int, ...]
    """The layers that were run."""
    findings: tuple[Finding, ...]
    n_tokens: int
    n_sinks: int
    """Of the tokens; left out of medians."""
    n_sequences: int
    seconds: float
    texts: str = "text"
    """The text, in words."""
    probes: Mapping[int, LayerProbe] = field(default_factory=dict)
    """Layer -> what its adapter fits, and everything that was tried."""
    notes: tuple[str, ...] = ()
    """What was not checked, and why, in sentences."""

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_json(self) -> dict:
        """Plain dicts, lists, strings and numbers."""
        return asdict(self)


def ordered(findings) -> tuple[Finding, ...]:
    """The worst first, then in the order of RULES, then by layer."""
    place = list(RULES)
    return tuple(
        sorted(
            findings,
            key=lambda f: (
                SEVERITIES.index(f.severity),
                place.index(f.rule),
                -1 if f.layer is None else f.layer,
            ),
        )
    )

"""Preset objectives: each loss alone, the published recipes, and the published phases."""

from dataclasses import replace

from npt_viz.training.losses.objective import Objective, composite
from npt_viz.training.losses.terms import TERMS
from npt_viz.training.losses.weighting import Curriculum


def _phase(*names: str, **settings) -> Objective:
    weights = {"direct": 1.0} | {name: TERMS[name].weight for name in names}
    return Objective(weights=weights, adaptive="gradient_norms", **settings)


PRESETS: dict[str, Objective] = {
    "direct alone": Objective(weights={"direct": 1.0}),
    "direct, robust to sinks": Objective(weights={"direct_robust": 1.0}),
    "direct and KL": Objective(weights={"direct": 1.0, "kl": 1.0}),
    "published composite": composite(),
    "published phase 1": _phase("guidance"),
    "published phase 2": _phase("guidance", "bottleneck", "decomposed"),
    "published phase 3": _phase(
        "guidance", "bottleneck", "decomposed", "consistency", curriculum=Curriculum()
    ),
    "published phase 4": _phase(
        "guidance", "bottleneck", "decomposed", "consistency", "orthogonality", curriculum=Curriculum()
    ),
}
"""Phases add to the direct loss, cumulatively: 1 guidance and adaptive weights, 2 bottleneck and decomposed target,
3 consistency and curriculum, 4 orthogonality (docs/mathematics.md §10). All in their corrected forms."""


def each_alone() -> dict[str, Objective]:
    """Every loss by itself."""
    return {name: Objective(weights={name: 1.0}) for name in TERMS}


def leave_one_out(objective: Objective) -> dict[str, Objective]:
    """The objective without one of its losses at a time; empty where it has one loss."""
    active = objective.active
    return {
        f"without {name}": replace(
            objective,
            weights={other: weight for other, weight in active.items() if other != name},
            as_written=objective.as_written - {name},
        )
        for name in active
        if len(active) > 1
    }


def as_written_and_corrected(name: str) -> dict[str, Objective]:
    """Both forms of one loss, alone."""
    return {
        f"{name}, {form.replace('_', ' ')}": Objective(
            weights={name: 1.0}, as_written=frozenset({name} if form == "as_written" else ())
        )
        for form in TERMS[name].forms
    }

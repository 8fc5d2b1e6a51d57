"""The losses: functions of tensors (output, vectors, logits), the registry (terms), and how they are weighted."""

from npt_viz.training.losses.objective import Objective, composite, objective
from npt_viz.training.losses.terms import TERMS, Form, Term
from npt_viz.training.losses.weighting import COMPOSITE, AdaptiveWeights, Curriculum, staged_weights

__all__ = [
    "COMPOSITE",
    "TERMS",
    "AdaptiveWeights",
    "Curriculum",
    "Form",
    "Objective",
    "Term",
    "checked",
    "composite",
    "objective",
    "staged_weights",
]


def checked(losses) -> dict[str, float]:
    """The active losses with their weights; raises for unknown names and weights that are no weights."""
    return objective(losses).active

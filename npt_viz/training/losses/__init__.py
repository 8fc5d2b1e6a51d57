"""The losses: functions of tensors (output, vectors, logits), the registry (terms), and how they are weighted."""

from npt_viz.training.losses.objective import Losses, Objective, composite, losses_text, objective
from npt_viz.training.losses.terms import TERMS, Form, Term
from npt_viz.training.losses.weighting import (
    COMPOSITE,
    AdaptiveWeights,
    Curriculum,
    curriculum_of,
    curriculum_text,
    staged_weights,
)

__all__ = [
    "COMPOSITE",
    "TERMS",
    "AdaptiveWeights",
    "Curriculum",
    "Form",
    "Losses",
    "Objective",
    "Term",
    "composite",
    "curriculum_of",
    "curriculum_text",
    "losses_text",
    "objective",
    "staged_weights",
]

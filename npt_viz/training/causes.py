"""Why a training goes wrong, as far as its settings and its numbers tell; where they do not, the sentence says so."""

import math
from collections.abc import Mapping

from npt_viz.training.recipe import Recipe

STRONG_DECAY = 0.01
"""Share of a weight that decay takes a step, from which decay and not the losses decides what becomes of it."""

GROWN = 10.0
"""Times their norm at the start, from which the weights of an adapter count as blown up."""

STILL = 1e-5
"""Change of the weights over their norm at the start below which a training has learned nothing."""

ADAM_EPSILON = 1e-8
"""AdamW adds it to the size of a gradient's entry before it divides by that size."""


def decay_a_step(recipe: Recipe | None) -> float:
    """Share of a weight that weight decay takes at the peak of the schedule; above 2 the weights grow by it."""
    return 0.0 if recipe is None else recipe.learning_rate * recipe.weight_decay


def steadier(recipe: Recipe | None) -> str:
    """What to do about weights that blow up, as a clause."""
    if recipe is not None and decay_a_step(recipe) > 2:
        return (
            f"lower the weight decay {recipe.weight_decay:g}: at the learning rate {recipe.learning_rate:g} it multiplies "
            f"every weight by {1 - decay_a_step(recipe):.3g} a step"
        )
    return "lower the learning rate"


def shrinking(recipe: Recipe | None, losses: Mapping[str, float]) -> str:
    """What makes weights vanish and what to do, as a clause."""
    if recipe is not None and decay_a_step(recipe) > STRONG_DECAY:
        return (
            f"the weight decay {recipe.weight_decay:g} takes {min(1, decay_a_step(recipe)):.0%} of every weight a step: "
            "lower it"
        )
    shrink = [name for name in ("regularisation", "update_norm") if losses.get(name)]
    if shrink:
        return f"lower the weight of {' and of '.join(shrink)}, or start afresh"
    return "no loss and no weight decay asks for that, so the cause cannot be told from here: start afresh"


def not_finite(recipe: Recipe, name: str, *, losses: Mapping[str, float], taken: bool, grown: float) -> str:
    """Why a loss is not finite and what to do, as a clause.

    name: the loss. taken: whether a step was. grown: the weights' norm over that at the start.
    """
    if not taken:
        return "no step was taken yet, so the start gives it: choose another start, or leave the loss out"
    if decay_a_step(recipe) > 2:
        return steadier(recipe)
    if grown > GROWN:
        return f"its weights have {grown:.3g} times the norm of the start: {steadier(recipe)} {recipe.learning_rate:g}"
    other = f", or the weight of {name}" if len(losses) > 1 else ""
    return (
        f"the cause cannot be told, its weights have {grown:.3g} times the norm of the start; try to {steadier(recipe)} "
        f"{recipe.learning_rate:g}{other}"
    )


def largest_factor(losses: Mapping[str, float], gradient_scale: float) -> str:
    """The factor that is furthest above 1 among those on a gradient, in words."""
    factors = {"gradient scale": gradient_scale} | {f"weight of {name}": w for name, w in losses.items()}
    name = max(factors, key=factors.__getitem__)
    return f"{name} {factors[name]:g}"


def smallest_factor(losses: Mapping[str, float], gradient_scale: float) -> str:
    """The factor that is furthest below 1 among those on a gradient, in words."""
    factors = {"gradient scale": gradient_scale} | {f"weight of {name}": w for name, w in losses.items()}
    name = min(factors, key=factors.__getitem__)
    return f"{name} {factors[name]:g}"


def short_warmup(recipe: Recipe) -> str:
    """What a warm-up means that outlasts the training; empty where it does not."""
    if recipe.warmup <= recipe.steps:
        return ""
    reached = recipe.learning_rate * recipe.steps / recipe.warmup
    return (
        f"the warm-up of {recipe.warmup:,} steps is longer than the training of {recipe.steps:,}, so the step size ends at "
        f"{reached:.2g} and never reaches {recipe.learning_rate:g}: shorten the warm-up, or take more steps"
    )


def still(
    recipe: Recipe,
    *,
    moved: float,
    change: float,
    rates: float,
    grad_norm: float,
    n_weights: int,
    losses: Mapping[str, float],
    gradient_scale: float,
) -> str:
    """Why the weights did not move in a whole training, and what to do, as a sentence; empty where they moved.

    moved: norm of their change over that of the start. change: root mean square of the change of a weight.
    rates: sum of the step sizes, which bounds it. grad_norm: of the last step, before clipping.
    """
    if moved >= STILL:
        return ""
    said = f"its weights changed by {moved:.1g} of their norm in {recipe.steps:,} steps"
    entry = min(grad_norm, recipe.clip) / math.sqrt(n_weights)
    if entry < ADAM_EPSILON:
        cause = (
            f"raise the clip {recipe.clip:g}"
            if recipe.clip < grad_norm
            else f"raise the {smallest_factor(losses, gradient_scale)}"
        )
        return f"{said}: an entry of the gradient is {entry:.1g}, which AdamW takes for 0 (below {ADAM_EPSILON:g}); {cause}"
    if change > 0.01 * rates:
        enough_at_the_peak = moved * recipe.steps * recipe.learning_rate / rates >= STILL
        short = short_warmup(recipe) if enough_at_the_peak else ""
        return f"{said}: {short or f'the learning rate {recipe.learning_rate:g} allows no more; raise it'}"
    return f"{said}, and the cause cannot be told from here; try another start, other losses or a higher learning rate"

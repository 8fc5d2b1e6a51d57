"""What a training will take, before it starts: memory of the capture, and rough times."""

from collections.abc import Sequence
from typing import NamedTuple

from npt_viz.model.base import BaseModel
from npt_viz.training.capturing import capture_bytes
from npt_viz.training.losses import Objective
from npt_viz.training.recipe import Recipe

LOCAL_STEP = 1.0
"""Passes through a layer that a step of that layer costs a token: its MLP with the modulation, and the gradients.
Measured on SmolLM2-135M: 0.7 for a gate, 0.8 with up, 1.0 with down, 1.0 for four components (`python -m benchmarks.training_cost`)."""

ABOVE = 3.0
"""Passes through the layers above that a loss on logits costs a token: once forward, twice as much back."""

LOGITS = 8.0
"""What logits, their softmax and its gradient cost a token, in passes through as many weights as the unembedding has;
measured by the same command."""


class Cost(NamedTuple):
    """Estimate of what a training takes."""

    n_bytes: int
    """Of captured activations"""
    capture: float
    """Seconds"""
    steps: float
    """Seconds of all steps, evaluations left out"""


def cost(
    model: BaseModel,
    layers: Sequence[int],
    objective: Objective,
    recipe: Recipe,
    *,
    n_train: int,
    n_heldout: int,
    seconds_per_token: float,
) -> Cost:
    """Cost of training these layers on so many tokens.

    seconds_per_token: of one forward pass of the whole base model on this machine, in seconds.
    """
    together, ends = recipe.stream == "end_to_end", objective.needs_logits
    in_turn = recipe.stream == "in_order" and len(layers) > 1
    # In order, a layer has two captures: of the base, and of the stream that the layers below it make.
    at_once, times = (1, 2) if in_turn else (len(layers), 1)
    n_bytes = times * (
        capture_bytes(model, n_train, at_once, to_the_top=ends or together, projections=not together)
        + capture_bytes(model, n_heldout, at_once, to_the_top=together)
    )
    one_layer = seconds_per_token / model.n_layers
    turns = [[layer] for layer in layers] if in_turn else [list(layers)]
    passed = sum(model.n_layers if ends or together else max(turn) + 1 for turn in turns)
    a_token = LOCAL_STEP * len(layers)
    if ends:
        a_token += ABOVE * sum(
            model.n_layers - 1 - layer for layer in ([min(layers)] if together else layers)
        )
        a_token += LOGITS * unembedding_in_layers(model) * (1 if together else len(layers))
    elif together:
        a_token += max(layers) - min(layers)
    return Cost(
        n_bytes,
        times * (n_train + n_heldout) * passed * one_layer,
        recipe.steps * recipe.batch_tokens * recipe.accumulate * a_token * one_layer,
    )


def unembedding_in_layers(model: BaseModel) -> float:
    """Weights of the unembedding, in those of a layer."""
    head = model.hf.get_output_embeddings().weight.numel()
    layer = model.backbone.get_submodule("layers.0")
    return head / sum(weight.numel() for weight in layer.parameters())

"""What a training will take: the bytes are those that are captured, the times grow as the work does."""

import dataclasses

import pytest
import torch

from npt_viz.training.capturing import capture_bytes, captured
from npt_viz.training.cost import cost
from npt_viz.training.losses import Objective
from npt_viz.training.recipe import Recipe


@pytest.mark.parametrize("wishes", [{}, {"to_the_top": True}, {"projections": True}])
def test_the_bytes_are_those_of_the_captured_tensors(tiny_llama, wishes):
    sequences = [torch.arange(2, 9), torch.arange(3, 14), torch.arange(2, 7)]
    capture = captured(tiny_llama, sequences, [1, 2], positions="deployed", **wishes)
    tensors = [capture.final] if capture.final is not None else []
    for tokens in capture.layers.values():
        each = [
            getattr(tokens, field.name) for field in dataclasses.fields(tokens) if field.name != "is_sink"
        ]
        tensors += [tensor for tensor in each if tensor is not None]
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert capture_bytes(tiny_llama, 7 + 11 + 5, 2, **wishes) == held


def test_time_grows_with_steps_tokens_and_layers_above(tiny_llama):
    def of(layers, losses, **recipe):
        return cost(
            tiny_llama,
            layers,
            Objective(weights=dict.fromkeys(losses, 1.0)),
            Recipe(**recipe),
            n_train=700,
            n_heldout=100,
            seconds_per_token=0.5,
        )

    plain = of([1], ["direct"], steps=10, batch_tokens=32)
    assert of([1], ["direct"], steps=30, batch_tokens=32).steps == pytest.approx(3 * plain.steps)
    assert of([1], ["direct"], steps=10, batch_tokens=96).steps == pytest.approx(3 * plain.steps)
    assert of([1], ["direct", "kl"], steps=10, batch_tokens=32).steps > plain.steps
    # The capture ends after the layer unless a loss needs the top.
    assert plain.capture == pytest.approx(800 * 0.5 * 2 / tiny_llama.n_layers)
    assert of([1], ["kl"], steps=10, batch_tokens=32).capture == pytest.approx(800 * 0.5)

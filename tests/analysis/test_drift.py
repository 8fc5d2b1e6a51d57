"""Drift by depth against the hidden states that Hugging Face returns."""

import pytest
import torch
from conftest import specimen

from npt_viz.analysis.drift import recorded_drift
from npt_viz.capture.running import NoAttention, changed, forward_pass

PROMPT = torch.tensor([[0, 72, 103, 31, 31, 200, 5, 97]])


def streams(model, lane):
    """(depth, token, model): entering every layer, and what enters the final norm."""
    last = []
    hook = model.backbone.norm.register_forward_pre_hook(lambda module, args: last.append(args[0][0]))
    try:
        with changed(model, [lane]), torch.no_grad():
            states = model.hf(PROMPT, output_hidden_states=True).hidden_states
    finally:
        hook.remove()
    # The last entry of hidden_states is after the final norm.
    return torch.stack([*(state[0] for state in states[:-1]), last[0]])


def test_drift_is_the_relative_distance_of_separate_runs_at_every_depth(tiny_llama):
    lanes = [{}, {1: specimen(tiny_llama, "N4", 1), 3: specimen(tiny_llama, "N2", 3)}, {2: NoAttention()}]
    with recorded_drift(tiny_llama, len(lanes)) as found:
        forward_pass(tiny_llama, PROMPT, lanes)
    found = torch.stack(found, dim=1)
    base = streams(tiny_llama, {})
    assert found.shape == (3, tiny_llama.n_layers + 1, 8)
    for lane, drift in zip(lanes, found, strict=True):
        expected = (streams(tiny_llama, lane) - base).norm(dim=-1) / base.norm(dim=-1)
        torch.testing.assert_close(drift, expected, atol=1e-5, rtol=1e-4)
    assert (found[0] == 0).all()
    # Rows of one batch may differ in the last bit although nothing has changed them.
    assert (found[1, :2] < 1e-6).all() and (found[1, 2:] > 1e-3).all()
    assert (found[2, :3] < 1e-6).all() and (found[2, 3:] > 1e-3).all()


def test_no_hook_is_left_after_an_error(tiny_llama):
    with pytest.raises(RuntimeError, match="stop"), recorded_drift(tiny_llama, 2):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in tiny_llama.hf.modules())

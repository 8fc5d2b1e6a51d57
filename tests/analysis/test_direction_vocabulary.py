"""First-order promoted tokens against the logits of the real model with a small change put in."""

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.analysis.direction_map import direction_map
from npt_viz.analysis.direction_vocabulary import direction_vocabulary
from npt_viz.analysis.updates import updates_of
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import views_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]
TOKEN = 6
ALL = 258


@pytest.fixture(scope="module")
def opened():
    model = tiny_model(dtype=torch.float64)
    # The last layer: what it writes goes to the final norm with nothing in between.
    adapter = specimen(model, "N5", 4, components=2)
    checkpoint = Checkpoint.from_adapters({4: adapter}, model, "specimen")
    return model, checkpoint, inspect(model, checkpoint, IDS, logits=False), 4


def changes_of(result) -> np.ndarray:
    """(vocab,) from both lists, which together name every entry."""
    found = np.full(ALL, np.nan)
    for entry in (*result.promoted, *result.suppressed):
        found[entry.id] = entry.change
    return found


def finite_difference(model, target, token, delta, epsilon=3e-3):
    """Of the logits when ±ε δ joins the projection on z, at the base's own final stream; its norms round to float32."""
    mlp, norm = model.parts(4).mlp, model.parts(4).mlp_norm
    layer_input, attention = [], []
    parts = model.parts(4)
    hooks = [
        parts.layer.register_forward_pre_hook(
            lambda m, args, kwargs: layer_input.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        ),
        parts.attention.register_forward_hook(lambda m, args, out: attention.append(out[0])),
        model.backbone.norm.register_forward_pre_hook(lambda m, args: streams.append(args[0][0, token])),
    ]
    streams = []
    try:
        model.hf(torch.tensor([IDS]))
    finally:
        for hook in hooks:
            hook.remove()
    z = norm(layer_input[0])[0, token]

    def written(step):
        gate, up = mlp.gate_proj(z), mlp.up_proj(z)
        gate = gate + step * delta if target == "gate" else gate
        up = up + step * delta if target == "up" else up
        out = mlp.down_proj(torch.nn.functional.silu(gate) * up)
        return out + step * delta if target == "down" else out

    def logits(step):
        return model.unembedding(model.backbone.norm(streams[0] + written(step) - written(0)))

    return ((logits(epsilon) - logits(-epsilon)) / (2 * epsilon)).numpy()


@pytest.mark.parametrize("target", ["gate", "up", "down"])
@pytest.mark.parametrize("component", [None, 1])
def test_changes_are_the_derivative_of_the_real_logits(opened, target, component):
    model, checkpoint, run, layer = opened
    found = direction_vocabulary(
        model, checkpoint, run, layer, TOKEN, target=target, component=component, top=ALL
    )
    delta = updates_of(views_of(model, {4: checkpoint.adapter(4)}, IDS)[4], target).effects(component)
    delta = delta.vectors()[TOKEN].double()
    expected = finite_difference(model, target, TOKEN, delta)
    np.testing.assert_allclose(changes_of(found), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert found.norm == pytest.approx(delta.norm().item(), rel=1e-5)


def test_promoted_rise_and_suppressed_fall_most(opened):
    found = direction_vocabulary(*opened, TOKEN, top=5)
    up, down = ([entry.change for entry in entries] for entries in (found.promoted, found.suppressed))
    assert up == sorted(up, reverse=True) and down == sorted(down)
    assert len(up) == len(down) == 5 and up[-1] > down[-1]


def test_the_mean_direction_is_that_of_the_tokens_that_count(opened):
    model, checkpoint, run, layer = opened
    view = views_of(model, {4: checkpoint.adapter(4)}, IDS)[4]
    mean = updates_of(view, "up").effects().vectors().mean(0).double()
    found = direction_vocabulary(
        model, checkpoint, run, layer, TOKEN, direction="mean", target="up", top=ALL, keep_sinks=True
    )
    expected = finite_difference(model, "up", TOKEN, mean)
    np.testing.assert_allclose(changes_of(found), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_is_one_standard_deviation_of_the_map_with_its_sign(opened, axis):
    model, checkpoint, run, layer = opened
    vectors = updates_of(views_of(model, {4: checkpoint.adapter(4)}, IDS)[4], "gate").effects().vectors()
    vectors = vectors.double().numpy()
    _, sigma, rows = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    drawn = direction_map(model, checkpoint, run, layer).coordinates[:, axis]
    sign = np.sign((vectors - vectors.mean(0)) @ rows[axis] @ drawn)
    direction = torch.tensor(sign * rows[axis] * sigma[axis] / np.sqrt(len(IDS)))
    found = direction_vocabulary(model, checkpoint, run, layer, TOKEN, direction=f"axis {axis + 1}", top=ALL)
    assert found.norm == pytest.approx(drawn.std(), rel=1e-4)
    expected = finite_difference(model, "gate", TOKEN, direction)
    np.testing.assert_allclose(changes_of(found), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_random_directions_of_the_same_norm_are_the_reference(opened):
    model = opened[0]
    found = direction_vocabulary(*opened, TOKEN, top=ALL, seed=3)
    heights = []
    for _ in range(16):
        x = torch.randn(31, dtype=torch.float64)
        heights.append(np.abs(finite_difference(model, "gate", TOKEN, found.norm * x / x.norm())).max())
    assert found.random.n == 8
    assert found.random.mean == pytest.approx(np.mean(heights), abs=4 * np.std(heights) / np.sqrt(8))
    assert direction_vocabulary(*opened, TOKEN, seed=3).random == found.random


@pytest.mark.parametrize(
    ("token", "asked", "sentence"),
    [
        (TOKEN, {"direction": "axis 3"}, "there is no direction 'axis 3'"),
        (11, {}, "token 11 does not exist"),
        (TOKEN, {"component": 2}, "component 2 does not exist"),
    ],
)
def test_what_does_not_exist_is_a_sentence(opened, token, asked, sentence):
    with pytest.raises(NptVizError, match=sentence):
        direction_vocabulary(*opened, token, **asked)


def test_a_zero_direction_speaks_for_no_token(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    adapter.modulations["gate"].W_b_up.zero_()
    checkpoint = Checkpoint.from_adapters({2: adapter}, tiny_llama, "specimen")
    run = inspect(tiny_llama, checkpoint, IDS, logits=False)
    with pytest.raises(NptVizError, match="s·v_b is zero"):
        direction_vocabulary(tiny_llama, checkpoint, run, 2, TOKEN)

"""What a layer reads and what the exact patch would add, against the Llama written out token by token."""

import pytest
import torch
from conftest import specimen
from literal import LiteralLlama, edited, mlp_of

from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import layer_views, views_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]


def close(found, expected, tolerance=1e-5):
    return (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.fixture(scope="module")
def checkpoint(tiny_llama):
    adapters = {1: specimen(tiny_llama, "N4", 1, seed=1), 3: specimen(tiny_llama, "N5", 3, seed=3)}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


@pytest.mark.parametrize("mode", ["local", "propagated"])
def test_a_view_is_the_literal_layer(tiny_llama, checkpoint, mode):
    literal = LiteralLlama(tiny_llama)
    lane = {1: ("N4", checkpoint.adapter(1)), 3: ("N5", checkpoint.adapter(3))}
    layers, _, _ = literal.run(torch.tensor(IDS), None if mode == "local" else lane)
    view = layer_views(
        tiny_llama, checkpoint, inspect(tiny_llama, checkpoint, IDS, mode=mode, logits=False), [3]
    )[3]
    h, a = layers[3].hidden, layers[3].attention
    z, z_C = (literal.norm(x, "model.layers.3.post_attention_layernorm") for x in (h, h + a))
    mlp, adapter = mlp_of(tiny_llama, 3), checkpoint.adapter(3)
    assert close(view.hidden, h) and close(view.attention, a) and close(view.mlp_input, z)
    assert close(view.gate, z @ mlp.gate.T) and close(view.up, z @ mlp.up.T)
    assert close(view.exact["gate"], (z_C - z) @ mlp.gate.T, 1e-4)
    assert close(view.exact["up"], (z_C - z) @ mlp.up.T, 1e-4)
    assert close(view.exact["down"], a)
    for t in range(len(IDS)):
        W_g, W_u = (
            edited("N5", weight, adapter.modulations[target], a[t])[0]
            for target, weight in (("gate", mlp.gate), ("up", mlp.up))
        )
        m = torch.nn.functional.silu(W_g @ z[t]) * (W_u @ z[t])
        assert close(view.intermediate[t], m, 1e-4)
        assert close(view.down[t], mlp.down @ m, 1e-4)


def test_rows_are_the_same_tokens_in_every_column(tiny_llama, checkpoint):
    view = views_of(tiny_llama, {3: checkpoint.adapter(3)}, IDS)[3]
    part = view.rows([4, 9])
    assert len(part) == 2
    for name in ("hidden", "attention", "mlp_input", "gate", "up", "intermediate", "down"):
        assert torch.equal(getattr(part, name), getattr(view, name)[[4, 9]])
    assert torch.equal(part.exact["up"], view.exact["up"][[4, 9]])


def test_what_a_layer_does_not_have_is_a_sentence(tiny_llama, checkpoint):
    view = views_of(tiny_llama, {1: checkpoint.adapter(1), 2: specimen(tiny_llama, "S0", 2)}, IDS)
    with pytest.raises(NptVizError, match="does not modulate 'down'"):
        view[1].weight_change("down")
    with pytest.raises(NptVizError, match="no ΔW, v_a, v_b or scalar"):
        view[2].weight_change()
    run = inspect(tiny_llama, checkpoint, IDS, layers=[1], logits=False)
    with pytest.raises(NptVizError, match="layer 3 was not inspected"):
        layer_views(tiny_llama, checkpoint, run, [3])


def test_down_reads_the_intermediate_and_gate_and_up_the_mlp_input(tiny_llama, checkpoint):
    view = views_of(tiny_llama, {3: checkpoint.adapter(3)}, IDS)[3]
    assert view.read_by("down") is view.intermediate
    assert view.read_by("gate") is view.mlp_input and view.read_by("up") is view.mlp_input
    outputs = [view.plain_output(target) for target in ("gate", "up", "down")]
    assert all(one is other for one, other in zip(outputs, (view.gate, view.up, view.down), strict=True))


def test_a_view_without_a_kept_pass_is_that_of_the_inspections_positions(tiny_llama, checkpoint):
    views = {}
    for positions in ("deployed", "trained"):
        run = inspect(tiny_llama, checkpoint, IDS, positions=positions, logits=False)
        views[positions] = layer_views(tiny_llama, checkpoint, run, [3])[3].attention
        literal = views_of(tiny_llama, {3: checkpoint.adapter(3)}, IDS, positions=positions)[3].attention
        assert close(views[positions], literal)
    assert not close(views["deployed"], views["trained"], 1e-2)


def test_locally_a_view_runs_no_other_layer(tiny_llama, checkpoint, monkeypatch):
    """Each adapter of a large checkpoint takes memory; one layer's view needs one."""
    run = inspect(tiny_llama, checkpoint, IDS, logits=False)
    asked, adapter = [], checkpoint.adapter
    monkeypatch.setattr(checkpoint, "adapter", lambda layer: asked.append(layer) or adapter(layer))
    layer_views(tiny_llama, checkpoint, run, [3])
    assert asked == [3]

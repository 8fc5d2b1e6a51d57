"""The memory bar's estimate of activations, against tensors counted in a forward pass; sizes in words."""

import pytest
import torch
from conftest import specimen

from npt_viz.capture.running import forward_pass
from npt_viz.model.memory import activation_bytes
from npt_viz.ui.cache.memory import size

N_TOKENS = 11


def counted(model, recorded: list[int]) -> int:
    """Bytes of the tensors of one inspection, counted where they are made.

    Both lanes: the stream before and after a layer, the MLP's three inner tensors and as many of the adapter, and
    what the pass keeps of the recorded layers.
    """
    seen: dict[str, int] = {}
    last = model.parts(model.n_layers - 1)  # Above every adapter, so that both lanes are rows of one batch.
    hooks = [
        last.layer.register_forward_hook(
            lambda _, args, output: seen.update(stream=args[0].nbytes + output.nbytes)
        ),
        last.mlp.gate_proj.register_forward_hook(lambda _, args, output: seen.update(gate=output.nbytes)),
        last.mlp.up_proj.register_forward_hook(lambda _, args, output: seen.update(up=output.nbytes)),
        last.mlp.down_proj.register_forward_hook(lambda _, args, output: seen.update(product=args[0].nbytes)),
    ]
    adapters = {layer: specimen(model, "N5", layer) for layer in recorded}
    try:
        ids = torch.arange(2, 2 + N_TOKENS)[None]
        with torch.no_grad():
            run = forward_pass(model, ids, [{}, adapters], record=recorded)
    finally:
        for hook in hooks:
            hook.remove()
    # A row that counts for both lanes is stored once; the estimate is an upper bound and counts it twice.
    records = sum(
        t.element_size() * t.numel() for record in run.layers.values() for t in vars(record).values()
    )
    inner = seen["gate"] + seen["up"] + seen["product"]
    return seen["stream"] + 2 * inner + records


@pytest.mark.parametrize("recorded", [[1], [1, 2, 3]])
def test_the_estimate_of_activations_is_what_a_pass_makes(tiny_llama, recorded):
    assert activation_bytes(tiny_llama, N_TOKENS, len(recorded)) == counted(tiny_llama, recorded)


def test_nothing_is_estimated_before_a_prompt_was_run(tiny_llama):
    assert activation_bytes(tiny_llama, 0, 0) == 0


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (34_600_000, "34.6 MB"), (1.234e9, "1.23 GB")]
)
def test_sizes_are_short(n_bytes, text):
    assert size(n_bytes) == text

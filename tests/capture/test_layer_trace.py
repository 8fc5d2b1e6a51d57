"""What the NPT layers read and wrote, against the Llama written out token by token."""

import torch
from conftest import specimen
from literal import LiteralLlama

from npt_viz.capture.layer_trace import traces

PROMPT = torch.tensor([0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66])
VARIANTS = {1: "N1", 2: "N3", 3: "S0"}


def close(found, expected, tolerance=1e-5):
    return (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


def test_both_modes_are_the_literal_base_and_npt_model(tiny_llama):
    adapters = {layer: specimen(tiny_llama, v, layer, seed=layer) for layer, v in VARIANTS.items()}
    literal = LiteralLlama(tiny_llama)
    base, _, _ = literal.run(PROMPT)
    npt, _, _ = literal.run(PROMPT, {layer: (v, adapters[layer]) for layer, v in VARIANTS.items()})
    seen = traces(tiny_llama, adapters, PROMPT.tolist())
    for layer, variant in VARIANTS.items():
        target = base[layer].mlp_output + (base[layer].attention if variant == "N1" else 0)
        for mode, run in (("local", base), ("propagated", npt)):
            found = getattr(seen, mode)[layer]
            assert close(found.hidden, run[layer].hidden)
            assert close(found.attention, run[layer].attention)
            assert close(found.target, target)
            assert close(found.base_attention, base[layer].attention)
        assert close(seen.propagated[layer].output, npt[layer].mlp_output)
    assert not close(seen.local[3].output, npt[3].mlp_output)


def test_a_token_that_dwarfs_the_others_is_a_sink(tiny_llama):
    adapters = {0: specimen(tiny_llama, "N1", 0)}
    hook = tiny_llama.hf.model.embed_tokens.register_forward_hook(
        lambda module, args, output: torch.cat([100 * output[:, :1], output[:, 1:]], dim=1)
    )
    try:
        found = traces(tiny_llama, adapters, PROMPT.tolist()).is_sink
    finally:
        hook.remove()
    assert found.tolist() == [True] + [False] * 10
    assert not traces(tiny_llama, adapters, PROMPT.tolist()).is_sink.any()

"""The layers above an NPT layer against the whole model, with gradients against finite differences."""

import pytest
import torch

from npt_viz.capture.running import forward_pass
from npt_viz.training.above import LayersAbove
from npt_viz.training.capturing import captured
from npt_viz.training.losses import logits

SEQUENCES = [torch.randint(2, 258, (n,), generator=torch.Generator().manual_seed(n)) for n in (13, 7, 13)]


@pytest.mark.parametrize("positions", ["deployed", "trained"])
@pytest.mark.parametrize("first", [0, 3, 5])
def test_from_any_layer_up_the_final_state_is_the_whole_models(tiny_llama, positions, first):
    layer = min(first, 4)
    found = captured(tiny_llama, SEQUENCES, [layer], positions=positions, to_the_top=True)
    tokens = found.layers[layer]
    stream = tokens.hidden if first < 5 else tokens.hidden + tokens.attention + tokens.mlp_with_attention
    above = LayersAbove(tiny_llama, found.arguments)
    made = above.final_of_rows(first, stream, [13, 7, 13])
    for i, ids in enumerate(SEQUENCES):
        expected = forward_pass(tiny_llama, ids[None], positions=positions).final[0]
        torch.testing.assert_close(made[found.starts[i] : found.starts[i + 1]], expected)


def test_attention_is_the_layers_own(tiny_llama):
    found = captured(tiny_llama, SEQUENCES, [2, 3], to_the_top=True)
    above = LayersAbove(tiny_llama, found.arguments)
    for layer in (2, 3):
        made = above.attention(layer, found.layers[layer].hidden[:13][None])
        torch.testing.assert_close(made[0], found.layers[layer].attention[:13])


def test_gradients_are_those_of_the_whole_model_with_the_stream_put_in(tiny_llama):
    ids = SEQUENCES[1]
    found = captured(tiny_llama, [ids], [3], to_the_top=True)
    stream = found.layers[3].hidden.clone().requires_grad_(True)
    made = LayersAbove(tiny_llama, found.arguments).final_of_rows(4, stream, [7])
    weights = torch.randn_like(made)
    (gradient,) = torch.autograd.grad((made * weights).sum(), stream)

    def put_in(module, args, kwargs):
        return (stream[None], *args[1:]), kwargs

    hook = tiny_llama.parts(4).layer.register_forward_pre_hook(put_in, with_kwargs=True)
    try:
        whole = tiny_llama.backbone(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    finally:
        hook.remove()
    (expected,) = torch.autograd.grad((whole * weights).sum(), stream)
    torch.testing.assert_close(gradient, expected)
    assert all(parameter.grad is None for parameter in tiny_llama.hf.parameters())


def test_an_ending_gives_the_losses_of_the_explicit_logits(tiny_llama):
    found = captured(tiny_llama, SEQUENCES, [3], to_the_top=True)
    ending = LayersAbove(tiny_llama, found.arguments).ending(torch.randn_like(found.final), found.final)
    E = tiny_llama.unembedding.weight
    student, base = ending.final @ E.T, ending.final_base @ E.T
    fidelity = logits.fidelity(ending.final, ending.final_base, ending.gram, ending.vocab)
    torch.testing.assert_close(fidelity, torch.nn.functional.mse_loss(student, base))
    kl = logits.kl(ending.final, ending.final_base, ending.unembedding, ending.vocab)
    p = torch.distributions.Categorical(logits=base)
    expected = torch.distributions.kl_divergence(p, torch.distributions.Categorical(logits=student)).mean()
    torch.testing.assert_close(kl, expected)

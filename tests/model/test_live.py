"""A live model is looked at and left alone: the same numbers, its weights shared, and everything of it as it was."""

import copy

import pytest
import torch
from conftest import byte_tokenizer, perturbed, specimen, tiny_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import npt_viz
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.results.attribution import Quantity

PROMPT = "the cat sat on the mat"


def in_training(**options) -> LlamaForCausalLM:
    """A model of somebody's own in the middle of a training, with dropout, one part frozen and one in eval mode."""
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=24,
        intermediate_size=31,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=97,
        attention_dropout=0.5,
        bos_token_id=0,
        eos_token_id=1,
        **options,
    )
    torch.manual_seed(1)
    hf = perturbed(LlamaForCausalLM(config)).train().requires_grad_(True)
    hf.model.layers[0].mlp.requires_grad_(False)
    hf.model.layers[1].eval()
    return hf


def still(hf: nn.Module) -> LlamaForCausalLM:
    """An independent copy for reference: eval mode, no gradients."""
    return copy.deepcopy(hf).eval().requires_grad_(False)


def checkpoint_of(model, layers=(1, 3)) -> Checkpoint:
    return Checkpoint.from_adapters(
        {layer: specimen(model, "N5", layer, seed=layer) for layer in layers}, model, "c"
    )


def opened(hf, tokenizer=None):
    return npt_viz.open_model(hf, tokenizer=tokenizer or byte_tokenizer())


def everything_of(hf: nn.Module) -> dict:
    """Whatever a library could leave changed in a model."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modes": {name: module.training for name, module in hf.named_modules()},
        "hooks": {name: [dict(getattr(m, kind)) for kind in hooks] for name, m in hf.named_modules()},
        "gradients asked": {name: p.requires_grad for name, p in hf.named_parameters()},
        "places": {name: (id(p), p.data_ptr(), p._version) for name, p in hf.named_parameters()},
        "config": hf.config.to_dict(),
    }


CALLS = {
    "inspect": lambda model, c: npt_viz.inspect(model, c, PROMPT, mode="propagated").kl,
    "reconstruction": lambda model, c: npt_viz.reconstruction(model, c, PROMPT).propagated[3].recovered,
    "directions": lambda model, c: npt_viz.directions(
        model, c, npt_viz.inspect(model, c, PROMPT), 3
    ).alignment.cosines,
    "orthogonality": lambda model, c: (
        npt_viz.orthogonality(model, c, npt_viz.inspect(model, c, PROMPT)).layers[1].shares
    ),
    "attribution": lambda model, c: npt_viz.attribution(
        model, c, PROMPT, Quantity(kind="logit", token=7, token_id=9), method="gradient_x_activation"
    ).scores,
    "transplant": lambda model, c: npt_viz.transplant(model, c, PROMPT, "a dog", layers=[1, 3]).npt.kl,
    "health": lambda model, c: [
        v for f in npt_viz.health(model, c, ["Every good boy. " * 9], quick=True).findings for v in f.evidence.values()
    ],
    "train": lambda model, c: [
        step.total for step in npt_viz.train(model, c, ["Every good boy does fine. " * 40], steps=2, batch_tokens=32)
    ],
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_the_numbers_are_those_of_the_model_at_rest_and_the_live_one_stays_as_it_was(call):
    hf = in_training()
    base = opened(hf)
    reference = tiny_model()
    reference.hf = still(hf)
    checkpoint = checkpoint_of(base)
    hf(torch.tensor([[5, 7, 11]])).logits.sum().backward()
    gradients = {name: p.grad.clone() for name, p in hf.named_parameters() if p.grad is not None}
    before, weights = everything_of(hf), copy.deepcopy(hf.state_dict())
    torch.manual_seed(5)
    found = CALLS[call](base, checkpoint)
    assert everything_of(hf) == before
    assert all(torch.equal(weights[name], value) for name, value in hf.state_dict().items())
    assert all(torch.equal(gradients[name], hf.get_parameter(name).grad) for name in gradients)
    torch.manual_seed(5)
    expected = CALLS[call](reference, checkpoint_of(reference))
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), equal_nan=True)


def test_the_random_numbers_of_the_loop_are_not_used_up():
    base = opened(in_training())
    before = torch.get_rng_state()
    npt_viz.inspect(base, checkpoint_of(base), PROMPT)
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_between_forward_and_backward_leaves_the_gradients():
    hf, twin = in_training(), in_training()
    ids = torch.tensor([[5, 7, 11, 13]])
    losses = []
    for each in (hf, twin):
        torch.manual_seed(3)
        losses.append(each(ids, labels=ids).loss)
    base = opened(hf)
    npt_viz.inspect(base, checkpoint_of(base), PROMPT)
    for loss in losses:
        loss.backward()
    for (name, mine), (_, other) in zip(hf.named_parameters(), twin.named_parameters(), strict=True):
        assert mine.grad is other.grad is None or torch.equal(mine.grad, other.grad), name


def test_weights_are_shared_and_a_step_of_the_optimiser_is_seen():
    hf = in_training()
    base = opened(hf)
    places = {p.data_ptr() for p in hf.parameters()}
    assert {p.data_ptr() for p in base.hf.parameters()} == places
    checkpoint = checkpoint_of(base)
    first = npt_viz.inspect(base, checkpoint, PROMPT)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.mul_(1.1)
    second = npt_viz.inspect(base, checkpoint, PROMPT)
    reference = tiny_model()
    reference.hf = still(hf)
    expected = npt_viz.inspect(reference, checkpoint, PROMPT)
    torch.testing.assert_close(torch.tensor(second.nll_base), torch.tensor(expected.nll_base), equal_nan=True)
    assert abs(first.nll_base[:-1] - second.nll_base[:-1]).max() > 1e-3


def test_a_model_that_is_moved_to_another_dtype_is_followed():
    hf = in_training()
    base = opened(hf)
    hf.double()
    run = npt_viz.inspect(base, checkpoint_of(base), PROMPT)
    reference = tiny_model()
    reference.hf = still(hf)
    expected = npt_viz.inspect(reference, checkpoint_of(reference), PROMPT)
    assert base.dtype == torch.float64
    torch.testing.assert_close(torch.tensor(run.kl), torch.tensor(expected.kl), rtol=1e-12, atol=0)


def one_replaced(hf):
    mlp = hf.model.layers[2].mlp
    mlp.up_proj.weight = nn.Parameter(2 * mlp.up_proj.weight.detach())


def all_assigned(hf):
    hf.load_state_dict({key: 1.1 * value for key, value in hf.state_dict().items()}, assign=True)


def layer_replaced(hf):
    layer = copy.deepcopy(hf.model.layers[3])
    with torch.no_grad():
        layer.mlp.down_proj.weight.mul_(2)
    hf.model.layers[3] = layer


@pytest.mark.parametrize("change", [one_replaced, all_assigned, layer_replaced])
@pytest.mark.parametrize("around", [lambda hf: hf, lambda hf: nn.ModuleDict({"module": hf})])
def test_weights_that_are_replaced_are_followed(change, around):
    hf = in_training()
    base = opened(around(hf))
    checkpoint = checkpoint_of(base)
    first = npt_viz.inspect(base, checkpoint, PROMPT)
    change(hf)
    second = npt_viz.inspect(base, checkpoint, PROMPT)
    assert {p.data_ptr() for p in base.hf.parameters()} == {p.data_ptr() for p in hf.parameters()}
    reference = tiny_model()
    reference.hf = still(hf)
    expected = npt_viz.inspect(reference, checkpoint, PROMPT)
    torch.testing.assert_close(torch.tensor(second.nll_base), torch.tensor(expected.nll_base), equal_nan=True)
    assert abs(first.nll_base[:-1] - second.nll_base[:-1]).max() > 1e-3


def untied(hf):
    hf.lm_head.weight = nn.Parameter(1.5 * hf.lm_head.weight.detach())


def biased(hf):
    hf.model.layers[2].mlp.down_proj.bias = nn.Parameter(torch.ones(24))


def with_lora(hf):
    hf.model.layers[2].self_attn.q_proj.lora = nn.Linear(24, 3)


UNANNOUNCED = [
    (untied, ("lm_head.weight", "model.embed_tokens.weight", "tie_word_embeddings=False")),
    (biased, ("model.layers.2.mlp.down_proj.bias", "does not announce")),
    (with_lora, ("model.layers.2.self_attn.q_proj.lora.weight", "does not announce")),
]


@pytest.mark.parametrize(("change", "words"), UNANNOUNCED)
@pytest.mark.parametrize("around", [lambda hf: hf, lambda hf: nn.ModuleDict({"module": hf})])
def test_what_the_config_does_not_announce_is_named_at_opening_and_later(change, words, around):
    hf = in_training(tie_word_embeddings=True)
    model = around(hf)
    base = opened(model)
    checkpoint = checkpoint_of(base)
    change(hf)
    for use in (lambda: opened(model), lambda: npt_viz.inspect(base, checkpoint, PROMPT)):
        for _ in range(2):
            with pytest.raises(NptVizError) as refused:
                use()
            assert all(word in str(refused.value) for word in words)


def test_an_untied_model_is_read_once_its_config_says_so():
    hf = in_training(tie_word_embeddings=True)
    untied(hf)
    hf.config.tie_word_embeddings = False
    assert opened(hf).unembedding.weight.data_ptr() == hf.lm_head.weight.data_ptr()


def test_the_base_is_found_inside_modules_of_ones_own_and_their_hooks_do_not_run():
    hf = in_training()
    reference = tiny_model()
    reference.hf = still(hf)

    class OwnLayer(nn.Module):
        """An NPT layer as somebody writes it: around the base's layer, with parts of its own."""

        def __init__(self, layer):
            super().__init__()
            self.base_layer, self.np_component = layer, nn.Linear(24, 7)

        def forward(self, *_, **__):
            raise AssertionError("the base does not run this")

    hf.model.layers[2] = OwnLayer(hf.model.layers[2])
    hf.model.layers[3].mlp.register_forward_hook(lambda *_: pytest.fail("a hook of the user's ran"))
    wrapped = nn.ModuleDict({"module": hf})
    base = opened(wrapped)
    found = npt_viz.inspect(base, checkpoint_of(base), PROMPT)
    expected = npt_viz.inspect(reference, checkpoint_of(reference), PROMPT)
    assert found.kl.tolist() == expected.kl.tolist()


def test_tied_embeddings_stay_tied():
    hf = in_training(tie_word_embeddings=True)
    base = opened(hf)
    assert base.unembedding.weight is base.hf.get_input_embeddings().weight
    assert base.unembedding.weight.data_ptr() == hf.model.embed_tokens.weight.data_ptr()
    reference = tiny_model()
    reference.hf = still(hf)
    expected = npt_viz.inspect(reference, checkpoint_of(reference), PROMPT)
    assert npt_viz.inspect(base, checkpoint_of(base), PROMPT).kl.tolist() == expected.kl.tolist()


def broken(change) -> nn.Module:
    hf = in_training()
    return change(hf) or hf


def poisoned(hf):
    with torch.no_grad():
        hf.model.layers[2].mlp.up_proj.weight[3, 5] = torch.nan


def quantised(hf):
    weight = hf.model.layers[2].mlp.up_proj.weight
    hf.model.layers[2].mlp.up_proj.weight = nn.Parameter(weight.to(torch.int8), requires_grad=False)


def sharded(hf):
    weight = hf.model.layers[2].mlp.up_proj.weight
    hf.model.layers[2].mlp.up_proj.weight = nn.Parameter(weight.detach().flatten()[:99])


def renamed(hf):
    hf.model.layers[2].mlp.up = hf.model.layers[2].mlp.up_proj
    del hf.model.layers[2].mlp.up_proj


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (poisoned, ("model.layers.2.mlp.up_proj.weight", "1 NaN")),
        (quantised, ("model.layers.2.mlp.up_proj.weight", "int8", "quantised")),
        (sharded, ("model.layers.2.mlp.up_proj.weight", "(99,)", "(31, 24)", "gather")),
        (renamed, ("model.layers.2.mlp.up_proj.weight", "keep these names")),
        (lambda hf: nn.ModuleDict({"a": hf, "b": in_training()}), ("a.model.", "b.model.", "the one model")),
        (lambda hf: nn.Linear(3, 5), ("Linear", "no transformers model")),
        (lambda hf: hf.to("meta"), ("meta device",)),
    ],
)
def test_what_cannot_be_read_is_named(change, words):
    with pytest.raises((NptVizError, NotFiniteError)) as refused:
        opened(broken(change))
    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_the_tokenizer_and_the_settings_of_a_live_model_are_its_own():
    with pytest.raises(NptVizError, match=r"open_model\(model, tokenizer=tokenizer\)"):
        npt_viz.open_model(in_training())
    with pytest.raises(NptVizError, match="keeps its dtype and device"):
        npt_viz.open_model(in_training(), tokenizer=byte_tokenizer(), dtype="float32")
    with pytest.raises(NptVizError, match="model in memory alone"):
        npt_viz.open_model("smollm2-135m", tokenizer=byte_tokenizer())

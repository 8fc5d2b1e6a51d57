"""Adapters in memory: shared where they can be, never changed, and an error names layer, target, factor and rule."""

import pytest
import torch
from conftest import specimen
from torch import nn

import npt_viz
from npt_viz.adapter import VARIANTS
from npt_viz.checkpoint import live_checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.errors import NotFiniteError, NptVizError

PROMPT = "the cat sat"
RANK, MODEL, FFN = 7, 24, 31


def factors(target: str = "gate", *, seed: int = 0, **options) -> list[nn.Parameter]:
    """Three live parameters of the sizes of the tiny model."""
    inp, out = (FFN, MODEL) if target == "down" else (MODEL, FFN)
    generator = torch.Generator().manual_seed(seed)
    shapes = ((MODEL, RANK), (RANK, inp), (RANK, out))
    return [nn.Parameter((0.3 * torch.randn(shape, generator=generator)).to(**options)) for shape in shapes]


def literal(model, by_target: dict, prompt: str = PROMPT, layer: int = 2):
    """(relative error of N1 … N5 by the formulas of npt-facts, token by token) with plain matrix products."""
    seen = {}
    parts = model.parts(layer)
    hooks = [
        parts.layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.update(h=(args or [kwargs["hidden_states"]])[0]), with_kwargs=True
        ),
        parts.attention.register_forward_hook(lambda *args: seen.update(a=args[-1][0])),
    ]
    with torch.no_grad():
        model.hf(torch.tensor([model.tokenizer(prompt)["input_ids"]]))
        for hook in hooks:
            hook.remove()
        h, a = seen["h"][0], seen["a"][0]
        z = parts.mlp_norm(h)
        weight = {"gate": parts.gate.weight, "up": parts.up.weight, "down": parts.down.weight}

        def projected(target, x):
            rows = []
            for token, row in enumerate(x):
                matrix = weight[target]
                for down, a_up, b_up in by_target.get(target, []):
                    v_a, v_b = a[token] @ down @ a_up, a[token] @ down @ b_up
                    matrix = matrix + torch.outer(v_b, v_a)
                rows.append(matrix @ row)
            return torch.stack(rows)

        output = projected("down", nn.functional.silu(projected("gate", z)) * projected("up", z))
        target = a + parts.mlp(parts.mlp_norm(h + a))
        return (output - target).norm(dim=-1) / target.norm(dim=-1)


def test_the_triple_of_the_issue_is_the_layer_of_the_formulas(tiny_llama):
    gate = factors()
    run = npt_viz.inspect(tiny_llama, {2: {"gate": tuple(gate)}}, PROMPT)
    expected = literal(tiny_llama, {"gate": [gate]})
    torch.testing.assert_close(torch.tensor(run.layers[2].relative_error), expected, rtol=1e-5, atol=1e-6)
    assert run.layers[2].variant == "N1"


def as_lists(triples):
    return [[triple[i] for triple in triples] for i in range(3)]


def as_stacks(triples):
    return [torch.stack([triple[i] for triple in triples]) for i in range(3)]


def as_linears(triples):
    def linear(weight):
        module = nn.Linear(*weight.shape, bias=False)
        module.weight = nn.Parameter(weight.detach().T.contiguous())
        return module

    return [nn.ModuleList(linear(triple[i]) for triple in triples) for i in range(3)]


def as_names(triples):
    return dict(zip(("W_down", "W_a_up", "W_b_up"), map(nn.ParameterList, as_lists(triples)), strict=True))


def as_module(triples):
    module = nn.Module()
    for name, each in as_names(triples).items():
        setattr(module, name, each)
    return module


@pytest.mark.parametrize("form", [as_lists, as_stacks, as_linears, as_names, as_module])
def test_components_may_come_in_every_form_that_training_code_has(tiny_llama, form):
    triples = {t: [factors(t, seed=s) for s in (3, 5, 8)] for t in ("gate", "up", "down")}
    run = npt_viz.inspect(tiny_llama, {2: {t: form(each) for t, each in triples.items()}}, PROMPT)
    expected = literal(tiny_llama, triples)
    torch.testing.assert_close(torch.tensor(run.layers[2].relative_error), expected, rtol=1e-5, atol=1e-6)
    assert run.layers[2].scalar.shape == (len(PROMPT), 3)


def test_float32_parameters_are_shared_and_left_as_they_are(tiny_llama):
    gate = factors()
    for parameter in gate:
        parameter.grad = torch.ones_like(parameter)
    checkpoint = npt_viz.open_checkpoint({2: {"gate": gate}}, tiny_llama)
    shared = {p.data_ptr() for p in checkpoint.adapter(2).parameters()}
    assert shared == {p.data_ptr() for p in gate}
    before = [(p._version, p.requires_grad, p.is_leaf) for p in gate]
    first = npt_viz.inspect(tiny_llama, checkpoint, PROMPT)
    npt_viz.health(tiny_llama, checkpoint, ["Every good boy. " * 9], quick=True)
    assert [(p._version, p.requires_grad, p.is_leaf) for p in gate] == before
    assert all(bool((p.grad == 1).all()) for p in gate)
    with torch.no_grad():
        gate[2].mul_(2)
    second = npt_viz.inspect(tiny_llama, checkpoint, PROMPT)
    torch.testing.assert_close(
        torch.tensor(second.layers[2].update_norm), 2 * torch.tensor(first.layers[2].update_norm)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_dtype_is_read_as_it_is_now(tiny_llama, dtype):
    gate = factors(dtype=dtype)
    run = npt_viz.inspect(tiny_llama, {2: {"gate": gate}}, PROMPT)
    expected = literal(tiny_llama, {"gate": [[p.float() for p in gate]]})
    torch.testing.assert_close(torch.tensor(run.layers[2].relative_error), expected, rtol=1e-5, atol=1e-6)
    assert {p.dtype for p in gate} == {dtype}


def test_training_from_live_adapters_works_on_its_own_copy(tiny_llama):
    gate = factors()
    before = [p.detach().clone() for p in gate]
    start = npt_viz.open_checkpoint({2: {"gate": gate}}, tiny_llama)
    for _ in npt_viz.train(tiny_llama, start, ["Every good boy does fine. " * 40], steps=2, batch_tokens=32):
        pass
    assert all(torch.equal(old, new) for old, new in zip(before, gate, strict=True))
    assert all(p.requires_grad and p.grad is None for p in gate)


def test_an_adapter_of_the_library_in_training_is_shared_and_not_frozen(tiny_llama):
    adapter = specimen(tiny_llama, "N4").train().requires_grad_(True)
    checkpoint = live_checkpoint({2: adapter}, tiny_llama)
    run = npt_viz.inspect(tiny_llama, checkpoint, PROMPT)
    assert run.layers[2].variant == "N4"
    assert adapter.training and all(p.requires_grad for p in adapter.parameters())
    assert {p.data_ptr() for p in checkpoint.adapter(2).parameters()} == {
        p.data_ptr() for p in adapter.parameters()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_dict_by_the_names_of_a_file_is_read_as_the_file_would_be(tiny_llama, tmp_path, variant):
    tensors = named_tensors(specimen(tiny_llama, variant, components=2))
    state = {f"student.{key}": value for key, value in tensors.items()} | tiny_llama.hf.state_dict()
    wanted = npt_viz.open_checkpoint(saved(tensors, tmp_path), tiny_llama, semantics=variant)
    found = npt_viz.open_checkpoint(state, tiny_llama, semantics=variant)
    assert found.semantics(2) == wanted.semantics(2)
    if not found.adapter(2).is_pooled:
        one, other = (npt_viz.inspect(tiny_llama, each, PROMPT).kl for each in (found, wanted))
        assert one.tolist() == other.tolist()


def saved(tensors, folder) -> str:
    torch.save(dict(tensors), folder / "npt_weights.pt")
    return str(folder / "npt_weights.pt")


def test_semantics_can_be_chosen_and_are_otherwise_called_inferred(tiny_llama):
    gate = factors()
    chosen = npt_viz.open_checkpoint({2: {"gate": gate}}, tiny_llama, semantics="N2")
    assert chosen.adapter(2).attention == "beside" and chosen.provenance[2] == "chosen by the user"
    assert {p.data_ptr() for p in chosen.adapter(2).parameters()} == {p.data_ptr() for p in gate}
    scaled = npt_viz.open_checkpoint({2: {"gate": gate}}, tiny_llama, semantics="S2")
    plain = npt_viz.open_checkpoint({2: {"gate": gate}}, tiny_llama)
    assert plain.provenance[2] == "inferred from key names"
    norms = [npt_viz.inspect(tiny_llama, each, PROMPT).layers[2].update_norm for each in (scaled, plain)]
    torch.testing.assert_close(torch.tensor(norms[0]), 0.1 * torch.tensor(norms[1]))
    assert any("share all key names" in warning for warning in plain.report.warnings)


def changed(index: int, value) -> list:
    gate = factors()
    gate[index] = value
    return gate


def poisoned() -> list:
    gate = factors()
    with torch.no_grad():
        gate[1][3, 4] = torch.inf
    return gate


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ({2: {"gate": changed(1, torch.ones(24, 7))}}, ("layer 2, gate: W_a_up", "(24, 7)", "rank 7 × d_model 24", "turned")),
        ({2: {"gate": changed(2, torch.ones(7, 24))}}, ("W_b_up", "(7, 24)", "rank 7 × d_ffn 31")),
        ({2: {"down": factors("gate")}}, ("layer 2, down: W_a_up", "rank 7 × d_ffn 31")),
        ({2: {"gate": changed(0, torch.ones(24, 7).int())}}, ("W_down", "int32", "matrix of floats")),
        ({2: {"gate": changed(0, torch.ones(24, 7, device="meta"))}}, ("W_down", "meta device")),
        ({2: {"gate": changed(0, torch.ones(24, 7).to_sparse())}}, ("gate: W_down is sparse_coo", "give tensor.to_dense()")),
        ({2: {"gate": changed(1, torch.ones(7, 24).cfloat())}}, ("gate: W_a_up is complex64", "give its real part")),
        ({"ntp_wrapper.15.down_proj.weight": torch.ones(7, 24).to_sparse()}, ("sparse_coo", "to_dense()")),
        ({"down_proj.weight": torch.ones(7, 24).long()}, ("down_proj.weight is int64", "give floats")),
        ({2: {"gate": changed(0, nn.Linear(24, 7))}}, ("W_down", "bias=False")),
        ({2: {"gate": changed(0, "W_down")}}, ("W_down is str", "nn.Linear")),
        ({2: {"gate": poisoned()}}, ("layer 2, gate: W_a_up", "1 infinite", "[0, 3, 4]")),
        ({2: {"gate": factors()[:2]}}, ("layer 2, gate: list of length 2", "W_down, W_a_up, W_b_up")),
        ({2: {"gate": {"W_down": 1, "W_b_up": 1}}}, ("layer 2, gate: W_a_up is missing",)),
        ({2: {"gates": factors()}}, ("layer 2", "'gates'", "gate, up, down")),
        ({2: tuple(factors())}, ("layer 2: the adapter is tuple of length 3", "gate, up, down")),
        ({5: {"gate": factors()}}, ("layer 5 does not exist", "0 to 4")),
        ({"15": {"gate": 1}}, ("no NPT adapter",)),
        ({2.5: {"gate": 1}}, ("2.5", "{15: {'gate'")),
        ({}, ("an empty mapping", "{15: {'gate'")),
        ({2: {"gate": [[factors()[0]], factors()[1], [factors()[2]] * 2]}}, ("1, 1 and 2 components",)),
        ({2: {"gate": [[torch.ones(24, 7), torch.ones(24, 5)], 1, 1]}}, ("W_down", "(24, 7), (24, 5)")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_rule(tiny_llama, adapters, words):
    with pytest.raises((NptVizError, NotFiniteError)) as refused:
        npt_viz.inspect(tiny_llama, adapters, PROMPT)
    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_a_model_that_was_not_opened_is_named():
    from npt_viz.checkpoint import as_checkpoint

    with pytest.raises(NptVizError, match=r"the model is Linear; open it first: npt_viz.open_model"):
        as_checkpoint({2: {}}, nn.Linear(3, 5))

"""Every loss as the trainer calls it, against its formula on explicit vectors: the right tensor in the right place."""

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import edited

from npt_viz.adapter import VARIANTS
from npt_viz.training.capturing import captured
from npt_viz.training.losses import TERMS
from npt_viz.training.spec import trainable, why_untrainable
from npt_viz.training.student import student

LAYER, VARIANT = 2, "N5"


@pytest.fixture(scope="module")
def batch(tiny_llama):
    torch.manual_seed(3)
    adapter, ids = specimen(tiny_llama, VARIANT, LAYER).requires_grad_(True), torch.randint(2, 258, (29,))
    tokens = captured(tiny_llama, [ids], [LAYER]).layers[LAYER]
    return tokens, student(tiny_llama, adapter, tokens, tokens)


def rms(x):
    return np.sqrt((x**2).mean())


def cosine(v, x):
    return (v * x).sum(-1) / np.linalg.norm(v, axis=-1) / np.linalg.norm(x, axis=-1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def literal(batch, tiny_llama):
    """Loss -> value, from tensors made without Student: explicit v_a and v_b, token by token."""
    tokens, seen = batch
    parts, adapter = tiny_llama.parts(LAYER), seen.adapter
    h, a = tokens.hidden, tokens.attention
    with torch.no_grad():
        z, z_c = parts.mlp_norm(h), parts.mlp_norm(h + a)
        vectors = {
            t: (m.v_a(a).double().numpy(), m.v_b(a).double().numpy()) for t, m in adapter.modulations.items()
        }
        gate, up = parts.gate(z), parts.up(z)
        change = {}
        for target, x in (("gate", z), ("up", z)):
            v_a, v_b = vectors[target]
            change[target] = np.einsum("tki,ti,tko->to", v_a, x.double().numpy(), v_b)
        m = torch.nn.functional.silu(gate + torch.from_numpy(change["gate"]).float())
        m = m * (up + torch.from_numpy(change["up"]).float())
        v_a, v_b = vectors["down"]
        change["down"] = np.einsum("tki,ti,tko->to", v_a, m.double().numpy(), v_b)
        y = parts.down(m).double().numpy() + change["down"]
        taught, plain = parts.mlp(z_c).double().numpy(), parts.mlp(z).double().numpy()
        through = {"gate": parts.gate(a), "up": parts.up(a), "down": a}
    through = {name: value.double().numpy() for name, value in through.items()}
    h, a, z = (value.double().numpy() for value in (h, a, z))
    target = a + taught
    stream = [vectors[name][0] for name in ("gate", "up")]
    A, H = a[:, None], h[:, None]

    def guided(v, x, sign):
        scalar = (v * x[:, None]).sum(-1)
        wanted = np.linalg.norm(a, axis=1) / np.linalg.norm(x, axis=1)
        variance = scalar.var(axis=0, ddof=1)
        spread = -variance if sign < 0 else np.maximum(0, 0.1 - variance)
        return ((sigmoid(scalar) - sigmoid(wanted)[:, None]) ** 2).mean() + 0.1 * spread.mean()

    _, _, Vt = np.linalg.svd(h)
    return {
        "direct": (((y - target) ** 2).sum(1) / ((plain - target) ** 2).sum(1)).mean(),
        "direct_robust": np.log1p(((y - target) ** 2).sum(1) / ((plain - target) ** 2).sum(1)).mean(),
        "direct:as_written": ((y - target) ** 2).mean() / rms(target),
        "decomposed:as_written": 0.5 * ((y - a) ** 2).mean() + 0.5 * (taught**2).mean(),
        "attention_encoding": np.mean(
            [((v - A) ** 2).mean() / rms(a) + 0.5 * (1 - cosine(v, A).mean()) for v in stream]
        ),
        "regularisation": np.mean([(v_a**2).mean() + (v_b**2).mean() for v_a, v_b in vectors.values()]),
        "update_norm": np.mean(
            [(np.einsum("tki,tko->toi", *both) ** 2).sum((1, 2)).mean() for both in vectors.values()]
        ),
        "strength": np.mean([((change[t] - through[t]) ** 2).mean() for t in change]),
        "guidance": np.mean([guided(v, z, +1) for v in stream]),
        "guidance:as_written": np.mean([guided(v, h, -1) for v in stream]),
        "bottleneck": np.mean([0.01 * abs(cosine(v, H)).mean() - abs(cosine(v, A)).mean() for v in stream]),
        "consistency": np.mean(
            [
                ((v - v.mean(0)) ** 2).mean() + 1 - cosine(v, through[t][:, None]).mean()
                for t, (_, v) in vectors.items()
            ]
        ),
        "orthogonality": np.mean([((v @ Vt[:10].T) ** 2).mean() for v in stream]),
    }


@pytest.mark.parametrize(
    "name",
    [
        "direct",
        "direct_robust",
        "direct:as_written",
        "decomposed:as_written",
        "attention_encoding",
        "regularisation",
        "update_norm",
        "strength",
        "guidance",
        "guidance:as_written",
        "bottleneck",
        "consistency",
        "orthogonality",
    ],
)
def test_the_term_is_its_formula(name, batch, literal):
    term, _, form = name.partition(":")
    value = TERMS[term](batch[1], form or "corrected").item()
    np.testing.assert_allclose(value, literal[name], rtol=3e-5)


def test_every_local_term_and_form_is_tested_above_or_by_its_function(literal):
    """fidelity and kl are in test_above, decomposed in test_output, orthogonality as written in test_vectors."""
    every = {
        f"{n}{':as_written' if f == 'as_written' else ''}" for n, term in TERMS.items() for f in term.forms
    }
    assert every - set(literal) == {"fidelity", "kl", "decomposed", "orthogonality:as_written"}


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if term.needs == "local"])
def test_every_term_trains_something(name, batch):
    gradients = torch.autograd.grad(
        TERMS[name](batch[1]), list(batch[1].adapter.parameters()), retain_graph=True, allow_unused=True
    )
    assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_losses_on_the_stream_refuse_an_adapter_of_the_down_projection_alone(tiny_llama):
    adapter = specimen(tiny_llama, "N5", LAYER)
    del adapter.modulations["gate"], adapter.modulations["up"]
    tokens = captured(tiny_llama, [torch.randint(2, 258, (29,))], [LAYER]).layers[LAYER]
    seen = student(tiny_llama, adapter, tokens, tokens)
    for name in ("attention_encoding", "guidance", "bottleneck", "orthogonality"):
        assert "v_a of the down target lives in d_ffn" in TERMS[name].unfit(adapter.semantics, ("down",))
        assert TERMS[name].unfit(adapter.semantics, ("gate", "down")) is None
    for name in ("consistency", "regularisation", "update_norm"):
        assert TERMS[name].unfit(adapter.semantics, ("down",)) is None
    assert TERMS["consistency"](seen).isfinite() and TERMS["update_norm"](seen).isfinite()


ON_VECTORS = {
    "attention_encoding",
    "regularisation",
    "guidance",
    "bottleneck",
    "consistency",
    "orthogonality",
}


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if term.needs == "local"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_term_runs_on_every_variant_or_says_why_not(name, variant, tiny_llama):
    adapter = specimen(tiny_llama, variant, LAYER)
    if not hasattr(adapter.modulation("gate"), "v_a"):
        assert (TERMS[name].unfit(adapter.semantics, adapter.targets) is not None) == (name in ON_VECTORS)
    if reason := TERMS[name].unfit(adapter.semantics, adapter.targets):
        assert "an additive adapter has no v_a and v_b" in reason
    elif why_untrainable(adapter.semantics) is None:
        tokens = captured(tiny_llama, [torch.randint(2, 258, (29,))], [LAYER]).layers[LAYER]
        value = TERMS[name](student(tiny_llama, adapter.requires_grad_(True), tokens, tokens))
        assert value.isfinite()
        assert any(g is not None and g.abs().max() > 0 for g in _gradients(value, adapter))


def _gradients(value, adapter):
    return torch.autograd.grad(value, list(adapter.parameters()), allow_unused=True)


@pytest.mark.parametrize("variant", [name for name in trainable() if name[:2] in ("S0", "S1")])
def test_the_frobenius_regulariser_of_an_additive_adapter_is_the_squared_change_of_the_gate(
    variant, tiny_llama
):
    """mean over tokens of Σ δ², with δ from the literal form: (W' − W) x + bias."""
    adapter = specimen(tiny_llama, variant, LAYER)
    tokens = captured(tiny_llama, [torch.randint(2, 258, (13,))], [LAYER]).layers[LAYER]
    parts = tiny_llama.parts(LAYER)
    W = parts.gate.weight.double()
    reads = tokens.hidden + (tokens.attention if adapter.attention == "mlp_only" else 0)
    squares = []
    for x, a in zip(parts.mlp_norm(reads).double(), tokens.attention, strict=True):
        changed, bias = edited(variant, W, adapter.modulations["gate"], a)
        squares.append(((changed - W) @ x + bias).square().sum())
    seen = student(tiny_llama, adapter, tokens)
    torch.testing.assert_close(
        TERMS["update_norm"](seen).double(), torch.stack(squares).mean(), rtol=1e-5, atol=0
    )

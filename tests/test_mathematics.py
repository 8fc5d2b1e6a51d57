"""The identities of docs/mathematics.md, one section after the other: the formula written out, against the code.

Everything is float64 and random, with another prime for every axis. What is not an identity is not here.
"""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import byte_tokenizer, perturbed
from transformers import LlamaConfig, LlamaForCausalLM

from npt_viz.adapter import Additive, LayerAdapter, LowRankTanh, RankOneSum, Semantics, random_adapter
from npt_viz.analysis.gate_oracle import SILU_ARGMINIMUM, SILU_MINIMUM, BoundedLeastSquares
from npt_viz.analysis.pca import effective_rank, participation_ratio
from npt_viz.analysis.reconstruction import split_along
from npt_viz.analysis.references import FixedUpdate, exact_patch
from npt_viz.capture.layer_trace import attention_sinks, fit_columns
from npt_viz.capture.predictions import predictions
from npt_viz.editing.changes import LayerEdit
from npt_viz.editing.making.keys import minimum_norm_key, whitened_key, without_effect_on
from npt_viz.editing.realised import edited_weight
from npt_viz.editing.updates import Factors, Place, Update
from npt_viz.model.base import BaseModel
from npt_viz.results.downstream import perplexity
from npt_viz.results.orthogonality import random_share
from npt_viz.training.factored import vectors_of
from npt_viz.training.initialisation import SCALAR_STD, initialise_from_attention
from npt_viz.training.losses import Curriculum, logits, output, staged_weights, vectors
from npt_viz.training.losses.weighting import AdaptiveWeights

TOKENS, D_MODEL, D_FFN, RANK, COMPONENTS, VOCAB = 7, 13, 31, 5, 3, 67

SINGLE = 1e-5
"""Relative error of what is kept in float32: the factors of an update."""


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def close(found, expected, rtol=1e-10):
    """In the norm of the whole, so that an entry near zero does not decide."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    return found.shape == expected.shape and (found - expected).norm() <= rtol * expected.norm()


@pytest.fixture(scope="module")
def model():
    """A Llama of one layer whose widths are prime; its RMS norm rounds to float32, which both sides of a test share."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=D_MODEL,
        intermediate_size=D_FFN,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=2,
        max_position_embeddings=97,
    )
    torch.manual_seed(1)
    hf = perturbed(LlamaForCausalLM(config)).eval().requires_grad_(False).double()
    return BaseModel(hf=hf, tokenizer=byte_tokenizer(), name="one layer", source="made in memory")


def rank_one(target="gate", scale=-0.7, components=COMPONENTS) -> RankOneSum:
    inp, out = (D_FFN, D_MODEL) if target == "down" else (D_MODEL, D_FFN)
    weights = (
        normal(components, D_MODEL, RANK),
        normal(components, RANK, inp),
        normal(components, RANK, out),
    )
    return RankOneSum(*weights, scale=scale).requires_grad_(False)


def tanh_rule() -> LowRankTanh:
    return LowRankTanh(0.3 * normal(D_MODEL, RANK), normal(RANK, D_FFN), scale=0.6).requires_grad_(False)


def dense(modulation, attention):
    """(token, out, inp): the ΔW of every token as a matrix, which only a test may form."""
    if isinstance(modulation, LowRankTanh):
        strength = modulation.scale * torch.tanh(attention @ modulation.A)
        return torch.stack([(modulation.A @ torch.diag(c) @ modulation.B).T for c in strength])
    total = torch.zeros(
        len(attention), modulation.W_b_up.shape[2], modulation.W_a_up.shape[2], dtype=torch.float64
    )
    for W_down, W_a_up, W_b_up in zip(modulation.W_down, modulation.W_a_up, modulation.W_b_up, strict=True):
        v_a, v_b = attention @ W_down @ W_a_up, attention @ W_down @ W_b_up
        total += modulation.scale * v_b[:, :, None] * v_a[:, None, :]
    return total


def rules():
    torch.manual_seed(3)
    return [rank_one("gate"), rank_one("down"), tanh_rule()]


each_rule = pytest.mark.parametrize("modulation", rules(), ids=["gate", "down", "tanh"])


def width_read(modulation):
    return (modulation.A if isinstance(modulation, LowRankTanh) else modulation.W_a_up[0].T).shape[0]


# 3 Targets and the share recovered


def test_the_share_recovered_compares_squared_errors_and_the_direct_loss_is_what_is_left():
    written, nothing, target = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    error, needed = ((written - target) ** 2).sum(-1), ((nothing - target) ** 2).sum(-1)
    fit = fit_columns(written, nothing, target)
    assert close(fit["recovered"], 1 - error / needed, 1e-6)  # Results are float32.
    assert close(fit["relative_error"], (error / (target**2).sum(-1)).sqrt(), 1e-6)
    assert close(output.direct(written, target, nothing), (error / needed).mean())
    assert np.all(fit_columns(nothing, nothing, target)["recovered"] == 0)
    assert np.all(fit_columns(target, nothing, target)["recovered"] == 1)
    halfway = fit_columns((nothing + target) / 2, nothing, target)["recovered"]
    np.testing.assert_allclose(halfway, 0.75, rtol=1e-6)


# 4 Factored evaluation and norms


@each_rule
def test_factored_changes_norms_and_products_are_those_of_the_dense_weight_change(modulation):
    attention, x = normal(TOKENS, D_MODEL), normal(TOKENS, width_read(modulation))
    update = dense(modulation, attention)
    flat = update.flatten(1)
    assert close(modulation.change(attention, x), torch.einsum("toi,ti->to", update, x))
    assert close(modulation.update_norm(attention), flat.norm(dim=-1))
    assert close(modulation.update_gram(attention), flat @ flat.T)
    v_a, v_b = (found.squared_norm().sqrt() for found in vectors_of(modulation, attention))
    norm_a, norm_b = modulation.norms(attention)
    assert close(v_a, norm_a) and close(v_b, norm_b)
    assert close(norm_a, modulation.v_a(attention).norm(dim=-1))
    assert close(norm_b, modulation.v_b(attention).norm(dim=-1))


def test_scalars_and_the_summed_effect_need_neither_v_a_nor_v_b():
    modulation, attention, x = rank_one(), normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    p = modulation.bottleneck(attention)
    s = modulation.scalars(p, x)
    assert close(s, (modulation.v_a(attention) * x[:, None]).sum(-1))
    stacked = torch.cat([s[:, j, None] * p[:, j] for j in range(COMPONENTS)], dim=1)
    effect = modulation.scale * stacked @ torch.cat(list(modulation.W_b_up))
    assert close(effect, (s[..., None] * modulation.v_b(attention)).sum(1))
    assert close(modulation.delta(p, s), effect)


def test_one_component_has_one_singular_value_the_product_of_its_norms():
    modulation, attention = rank_one(components=1), normal(TOKENS, D_MODEL)
    product = math.prod(modulation.norms(attention))[:, 0]
    update = dense(modulation, attention)
    assert close(torch.linalg.matrix_norm(update, 2), product)
    assert close(torch.linalg.matrix_norm(update, "fro"), product)


# 5 Exact patches


@pytest.mark.parametrize("path", ["withheld", "beside"])
def test_the_exact_patch_makes_the_layer_write_what_the_base_layer_writes(model, path):
    h, a, mlp = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), model.parts(0).mlp
    z, z_C = (model.parts(0).mlp_norm(x) for x in (h, h + a))
    patch = exact_patch(model, 0, h, a, path)
    m_C = F.silu(z_C @ mlp.gate_proj.weight.T) * (z_C @ mlp.up_proj.weight.T)
    expected = {
        "gate": (z / (z**2).sum(-1, keepdim=True), (z_C - z) @ mlp.gate_proj.weight.T),
        "up": (z / (z**2).sum(-1, keepdim=True), (z_C - z) @ mlp.up_proj.weight.T),
        "down": (m_C / (m_C**2).sum(-1, keepdim=True), a),
    }
    assert patch.targets == (("gate", "up", "down") if path == "withheld" else ("gate", "up"))
    for target in patch.targets:
        v_a, v_b = expected[target]
        assert close(patch.modulations[target].v_a, v_a) and close(patch.modulations[target].v_b, v_b)
    beside = a if path == "beside" else 0.0
    assert close(h + beside + patch.mlp(mlp, a, z).output, h + a + mlp(z_C), 1e-13)
    assert not close(h + beside + mlp(z), h + a + mlp(z_C), 1e-2)


# 6 Gate only


def test_the_minimum_of_silu():
    x = SILU_ARGMINIMUM
    assert math.isclose(SILU_MINIMUM, x / (1 + math.exp(-x)), rel_tol=1e-15)
    assert math.isclose(SILU_MINIMUM, 1 + x, rel_tol=1e-14)
    around = torch.linspace(-20, 5, 10007, dtype=torch.float64)
    assert F.silu(around).min() >= SILU_MINIMUM


def test_some_change_of_the_gate_alone_reaches_any_target_and_one_component_writes_it():
    W_g, W_u, W_d = normal(D_FFN, D_MODEL), normal(D_FFN, D_MODEL), normal(D_MODEL, D_FFN)
    z, a, target = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    solver = BoundedLeastSquares(W_d, z @ W_g.T, z @ W_u.T, target)
    for penalty in (1.0, 1e-2, 1e-4, 1e-6, 1e-8):
        solver.descend(penalty, 200)
    patch = LayerAdapter(
        0, Semantics(), {"gate": FixedUpdate(z / (z**2).sum(-1, keepdim=True), solver.delta())}
    )
    assert close(
        (F.silu(z @ W_g.T + patch.change("gate", a, z, z @ W_g.T)) * (z @ W_u.T)) @ W_d.T, target, 1e-3
    )
    sigma = solver.m / solver.up
    assert (sigma >= SILU_MINIMUM - 1e-12).all()


# 7 Gauge freedom and parity


def test_the_gauge_changes_the_vectors_and_their_penalty_but_not_the_update():
    modulation, attention, x, c = rank_one(), normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), 2.3
    other = deepcopy(modulation)
    other.W_a_up *= c
    other.W_b_up /= c
    assert close(other.change(attention, x), modulation.change(attention, x))
    assert close(dense(other, attention), dense(modulation, attention))
    assert close(other.update_norm(attention), modulation.update_norm(attention))
    assert close(other.v_a(attention), c * modulation.v_a(attention))
    both = [vectors_of(each, attention) for each in (modulation, other)]
    assert close(vectors.update_norm(*both[0]), vectors.update_norm(*both[1]))
    assert not close(vectors.regularisation(*both[0]), vectors.regularisation(*both[1]), 1e-2)
    G = normal(RANK, RANK)
    turned = RankOneSum(
        modulation.W_down @ G,
        G.inverse() @ modulation.W_a_up,
        G.inverse() @ modulation.W_b_up,
        scale=modulation.scale,
    )
    assert close(dense(turned.requires_grad_(False), attention), dense(modulation, attention))
    with torch.no_grad():
        other.W_a_up.copy_(-modulation.W_a_up)
        other.W_b_up.copy_(-modulation.W_b_up)
    assert close(dense(other, attention), dense(modulation, attention))


@pytest.mark.parametrize("target", ["gate", "down"])
def test_a_sum_of_rank_one_updates_is_even_and_quadratic_in_attention(target):
    modulation, attention = rank_one(target), normal(TOKENS, D_MODEL)
    x = normal(TOKENS, width_read(modulation))
    added = modulation.change(attention, x)
    assert close(modulation.change(-attention, x), added)
    assert close(modulation.change(2 * attention, x), 4 * added)
    assert close(modulation.change(attention, 2 * x), 2 * added)


def test_the_tanh_rule_is_odd_and_the_additive_one_linear_in_attention():
    attention, x = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    odd, added = tanh_rule(), Additive(normal(D_MODEL, RANK), normal(RANK, D_FFN), scale=0.1)
    gate = normal(TOKENS, D_FFN)
    assert close(odd.change(-attention, x), -odd.change(attention, x))
    assert close(added.change(2 * attention, x, gate).detach(), 2 * added.change(attention, x, gate).detach())
    bound = odd.scale * odd.A.norm(dim=0) @ odd.B.norm(dim=1)
    assert (odd.update_norm(1e3 * attention) <= bound).all()


# 8 Attention sinks


def test_a_sink_is_longer_than_ten_medians_of_its_sequence():
    hidden = normal(TOKENS, D_MODEL)
    hidden *= torch.tensor([10.1, 1, 1, 9.9, 1, 1, 1])[:, None] / hidden.norm(dim=-1, keepdim=True)
    assert attention_sinks(hidden).tolist() == [True] + 6 * [False]


# 9 Next-token numbers


def test_next_token_numbers_are_those_of_the_distributions(model):
    final, ids = normal(2, TOKENS, D_MODEL), torch.arange(TOKENS) + 11
    p, q = (torch.softmax(x @ model.hf.lm_head.weight.T, -1) for x in final)
    found = predictions(model, final, ids, top_k=3)
    assert close(found.kl[1], (p * (p / q).log()).sum(-1), 1e-5)
    assert close(found.nll[1, :-1], -q[range(TOKENS - 1), ids[1:]].log(), 1e-5)
    assert np.isnan(found.nll[:, -1]).all() and (found.kl[0] == 0).all()
    assert (found.top_ids[1] == q.topk(3).indices.numpy()).all()
    assert close(found.top_probabilities[1], q.topk(3).values, 1e-5)
    assert (found.agrees[1] == (p.argmax(-1) == q.argmax(-1)).numpy()).all()
    assert math.isclose(perplexity(found.nll[1]), math.exp(found.nll[1, :-1].mean()), rel_tol=1e-5)


# 10 Losses


def test_the_error_of_the_logits_is_mostly_free_to_be_their_mean():
    final, base, E = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), normal(VOCAB, D_MODEL)
    difference = (final - base) @ E.T
    found = logits.fidelity(final, base, E.T @ E, VOCAB)
    assert close(found, difference.square().mean())
    mean, variance = difference.mean(-1), difference.var(-1, correction=0)
    assert close(found, (mean.square() + variance).mean())
    p, q = (base @ E.T).softmax(-1), (final @ E.T).softmax(-1)
    assert close(logits.kl(final, base, lambda x: x @ E.T, VOCAB), (p * (p / q).log()).sum(-1).mean())
    shifted = logits.kl(final, base, lambda x: x @ E.T + 5 * x[:, :1], VOCAB)
    assert close(shifted, (p * (p / q).log()).sum(-1).mean())


def test_the_corrected_direct_loss_has_no_unit_and_the_written_one_has():
    written, target, nothing = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    for loss in (output.direct, output.direct_robust):
        assert close(loss(9 * written, 9 * target, 9 * nothing), loss(written, target, nothing))
    as_written = output.direct_as_written(written, target)
    assert close(as_written, (written - target).square().mean() / target.square().mean().sqrt())
    assert close(output.direct_as_written(9 * written, 9 * target), 9 * as_written)


def test_the_robust_loss_divides_a_tokens_pull_by_one_more_than_its_loss():
    written, target, nothing = normal(1, D_MODEL), normal(1, D_MODEL), normal(1, D_MODEL)
    written.requires_grad_(True)
    (plain,) = torch.autograd.grad(loss := output.direct(written, target, nothing), written)
    (robust,) = torch.autograd.grad(output.direct_robust(written, target, nothing), written)
    assert close(robust, plain / (1 + loss.detach()))


def test_an_error_splits_into_its_part_along_attention_and_the_rest():
    error, a = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    along, beside = split_along(error, a)
    assert close(along**2 + beside**2, (error**2).sum(-1))
    nothing, target = normal(TOKENS, D_MODEL), normal(TOKENS, D_MODEL)
    assert close(output.decomposed(nothing, target, nothing, a), torch.tensor(1.0))
    assert output.decomposed(target, target, nothing, a) == 0


def test_half_of_the_decomposed_loss_as_written_is_a_constant():
    written, a, taught = normal(TOKENS, D_MODEL).requires_grad_(True), *normal(2, TOKENS, D_MODEL)
    found = output.decomposed_as_written(written, a, taught)
    assert close(found.detach(), 0.5 * (written - a).square().mean().detach() + 0.5 * taught.square().mean())
    (gradient,) = torch.autograd.grad(found, written)
    assert close(gradient, (written - a).detach() / written.numel())


def test_guidance_as_written_falls_without_end_and_the_corrected_form_does_not():
    modulation, a, h, z = rank_one(), *normal(3, TOKENS, D_MODEL)
    sizes = (1.0, 1e2, 1e4, 1e6)
    values = {}
    for size in sizes:
        larger = RankOneSum(modulation.W_down, size * modulation.W_a_up, modulation.W_b_up)
        v_a, _ = vectors_of(larger.requires_grad_(False), a)
        values[size] = (
            vectors.guidance_as_written(v_a, h, a).item(),
            vectors.guidance(v_a, z, a).item(),
        )
    assert all(values[s][0] < -(s**2) for s in sizes[1:])
    assert all(0 <= corrected <= 1.01 for _, corrected in values.values())


def test_the_slope_of_a_loss_along_itself_is_one_so_the_published_weights_are_uniform():
    value = normal(()).requires_grad_(True)
    assert torch.autograd.grad(loss := value.square(), loss)[0] == 1
    factors = AdaptiveWeights(decay=0.0).updated({"one": 2.0, "other": 6.0})
    assert math.isclose(factors["one"], 1.5) and math.isclose(factors["other"], 0.5)


def test_stages_and_curriculum_are_the_published_ones():
    asked = {
        "direct": 10.0,
        "attention_encoding": 5.0,
        "fidelity": 1.0,
        "regularisation": 0.01,
        "guidance": 2.0,
    }
    in_order = {
        step: tuple(round(w, 12) for w in staged_weights(asked, step, 1000).values())
        for step in (0, 999, 2000, 2999, 3000)
    }
    assert in_order[0] == in_order[999] == (0.1, 0.8, 0.1, 0.01, 2.0)
    assert in_order[2000] == (0.3, 0.55, 0.2, 0.01, 2.0)
    assert in_order[2999] == pytest.approx((0.5, 0.3, 0.3, 0.01, 2.0), abs=1e-3)
    assert in_order[3000] == (10.0, 1.0, 1.0, 0.01, 2.0)
    assert [Curriculum().quantile(step) for step in (499, 500, 999, 1000)] == [0.3, 0.7, 0.7, 1.0]


# 11 Initialisation


def started(components=1):
    adapter = random_adapter(
        0, Semantics(), ("gate",), d_model=D_MODEL, d_ffn=D_FFN, rank=RANK, components=components
    ).double()
    # Every direction has its own spread, in an order of its own.
    turn, _ = torch.linalg.qr(normal(D_MODEL, D_MODEL))
    attention = (normal(4001, D_MODEL) * torch.linspace(7, 0.1, D_MODEL)) @ turn
    z = normal(4001, D_MODEL)
    initialise_from_attention(adapter, attention, z, normal(4001, D_FFN), seed=0)
    return adapter.modulations["gate"], attention, z


def test_at_the_start_the_modulation_is_off_and_its_scalars_spread_as_named():
    modulation, attention, z = started(components=89)
    p = modulation.bottleneck(attention)
    assert modulation.change(attention, z).abs().max() == 0
    spread = torch.linspace(7, 0.1, D_MODEL).square()
    expected = torch.diag((spread / (spread + 0.3 * spread.mean()))[:RANK])
    assert ((p[:, 0].T @ p[:, 0] / len(p)) - expected).abs().max() < 0.15
    scalars = modulation.scalars(p, z)
    assert scalars.std(dim=0).square().mean().sqrt().item() == pytest.approx(SCALAR_STD, rel=0.1)


def test_at_the_start_only_the_output_factor_has_a_gradient_and_with_both_at_zero_nothing_has():
    modulation, attention, z = started()
    for both in (False, True):
        if both:
            modulation.W_a_up.data.zero_()
        modulation.zero_grad()
        (modulation.change(attention, z) - 1).square().mean().backward()
        assert modulation.W_down.grad.abs().max() == modulation.W_a_up.grad.abs().max() == 0
        assert (modulation.W_b_up.grad.abs().max() == 0) == both


# 12 Permanent updates


def test_the_smallest_key_has_exactly_the_asked_for_effect_at_its_token():
    z, effect = normal(1, D_MODEL), normal(D_FFN)
    key = minimum_norm_key(z)
    update = torch.outer(effect, key[0])
    assert close(update @ z[0], effect, 1e-14)
    # Any other key with the effect differs by something orthogonal to z.
    other = normal(D_MODEL)
    other = key[0] + other - (other @ z[0]) / (z[0] @ z[0]) * z[0]
    assert close(torch.outer(effect, other) @ z[0], effect, 1e-12)
    assert update.norm() < torch.outer(effect, other).norm()
    assert close(update.norm(), effect.norm() / z.norm())


@pytest.mark.parametrize("n", [11, 211], ids=["fewer tokens than dimensions", "more"])
def test_the_whitened_key_leaks_least_for_its_effect(n):
    z, reference, ridge = normal(1, D_MODEL), normal(n, D_MODEL) + 1, 0.01
    moment = reference.T @ reference / n
    C = moment + ridge * moment.trace() / D_MODEL * torch.eye(D_MODEL, dtype=torch.float64)
    solved = torch.linalg.solve(C, z[0])
    key = whitened_key(z, reference, ridge)
    assert close(key[0], solved / (z[0] @ solved))
    assert close((key * z).sum(), torch.tensor(1.0))
    smallest = minimum_norm_key(z)
    assert (reference @ key[0]).square().mean() < (reference @ smallest[0]).square().mean()
    assert key.norm() > smallest.norm()
    for _ in range(5):
        step = normal(D_MODEL)
        step -= (step @ z[0]) / (z[0] @ z[0]) * z[0]
        other = key[0] + 1e-3 * step
        assert other @ C @ other > key[0] @ C @ key[0]


def test_how_much_whitening_saves_and_costs_on_inputs_that_share_a_direction():
    """The setting of the numbers in the document."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    spread = torch.logspace(0, -1, 61, dtype=torch.float64)
    inputs = (2 * drawn(61) + drawn(499, 61)) * spread
    sources, reference, others = inputs.split([50, 200, 249])
    found = []
    for key in (minimum_norm_key(sources), whitened_key(sources, reference, 0.01)):
        found.append(((others @ key.T).square().mean(0).sqrt().median(), key.norm(dim=-1).median()))
    (smallest, short), (whitened, long) = found
    assert smallest.item() == pytest.approx(0.87, abs=0.005)
    assert whitened.item() == pytest.approx(0.15, abs=0.005)
    assert (long / short).item() == pytest.approx(4.5, abs=0.05)


def test_a_protected_key_reads_nothing_of_what_it_is_projected_off():
    protected, source = normal(5, D_MODEL), normal(1, D_MODEL)
    parts = Factors(minimum_norm_key(source).numpy(), normal(1, D_FFN).numpy())
    kept, share = without_effect_on(parts, protected, source, "here")
    v_a, v_b = torch.from_numpy(kept.v_a).double(), torch.from_numpy(kept.v_b).double()
    assert (protected @ v_a.T).abs().max() < SINGLE
    assert close((source @ v_a.T) @ v_b, torch.from_numpy(parts.v_b), SINGLE) and 0 < share < 1


def test_a_written_update_is_a_lora_of_as_many_ranks_as_tokens():
    tokens, alpha = 3, -1.7
    v_a, v_b = normal(tokens, D_MODEL), normal(tokens, D_FFN)
    place = Place(0, "gate")
    update = Update(factors={place: Factors(v_a.numpy(), v_b.numpy())}, alpha=alpha)
    W, x = normal(D_FFN, D_MODEL), normal(TOKENS, D_MODEL)
    written = update.written(place)
    lora_A, lora_B = torch.from_numpy(written.v_a), torch.from_numpy(written.v_b).T
    assert lora_A.shape == (tokens, D_MODEL) and lora_B.shape == (D_FFN, tokens)
    change = alpha * sum(torch.outer(b, a) for a, b in zip(v_a, v_b, strict=True))
    assert close(lora_B.double() @ lora_A.double(), change, SINGLE)
    assert close(
        x @ W.T + LayerEdit({"gate": written}).change("gate", x, x, x @ W.T), x @ (W + change).T, SINGLE
    )
    assert close(update.norm(), change.norm(), SINGLE)
    sizes = torch.linalg.svdvals(change)
    assert sizes[tokens] < 1e-12 * sizes[0]
    assert close(abs(alpha) * update.factors[place].singular_values(), sizes[:tokens], SINGLE)


def test_adding_a_small_update_in_bfloat16_keeps_little_of_it():
    """The setting of the numbers in the document: W Gaussian, 1,536 x 576, ΔW of rank 1 from Gaussian vectors."""
    generator = torch.Generator().manual_seed(0)
    W = (0.05 * torch.randn(1536, 576, generator=generator)).bfloat16()
    for relative, changed, cosine in ((1e-2, 0.66, 0.99), (1e-3, 0.18, 0.72), (1e-4, 0.018, 0.26)):
        v_a, v_b = torch.randn(1, 576, generator=generator), torch.randn(1, 1536, generator=generator)
        v_b *= relative * W.float().norm() / (v_a.norm() * v_b.norm())
        asked = v_b.T @ v_a
        stored = edited_weight(W, Factors(v_a.numpy(), v_b.numpy()), torch.bfloat16)
        realised = stored.double() - W.double()
        assert (stored != W).double().mean().item() == pytest.approx(changed, rel=0.1)
        found = torch.cosine_similarity(realised.flatten(), asked.double().flatten(), dim=0).item()
        assert found == pytest.approx(cosine, rel=0.05)


# 13 Orthogonality and random references


def test_a_random_vector_has_q_of_d_of_its_energy_in_q_axes():
    unit = F.normalize(normal(20011, D_MODEL), dim=-1)
    shares = unit[:, :RANK].square().sum(-1)
    expected = random_share(RANK, D_MODEL)
    assert shares.mean().item() == pytest.approx(RANK / D_MODEL, rel=0.02)
    assert (expected.mean, expected.sd) == (
        RANK / D_MODEL,
        math.sqrt(2 * RANK * (D_MODEL - RANK) / (D_MODEL**2 * (D_MODEL + 2))),
    )
    assert shares.std().item() == pytest.approx(expected.sd, rel=0.03)
    assert (unit[1:] * unit[:-1]).sum(-1).std().item() == pytest.approx(D_MODEL**-0.5, rel=0.03)


def test_the_published_number_of_random_directions_is_their_mean_square_norm_over_d():
    modulation, attention = rank_one(), normal(TOKENS, D_MODEL)
    v_a, _ = vectors_of(modulation, attention)
    every = torch.linalg.qr(normal(D_MODEL, D_MODEL)).Q
    found = vectors.orthogonality(v_a, every)
    assert close(found, v_a.squared_norm().mean() / D_MODEL)
    assert close(
        vectors.orthogonality(v_a, every[:, :2]), (modulation.v_a(attention) @ every[:, :2]).square().mean()
    )
    assert torch.svd_lowrank(normal(TOKENS, D_MODEL), q=RANK)[2].shape == (D_MODEL, RANK)


def test_n_equal_directions_count_as_n_and_one_as_one():
    for count in (effective_rank, participation_ratio):
        assert math.isclose(count(torch.full((RANK,), 0.7, dtype=torch.float64)), RANK, rel_tol=1e-12)
        assert count(torch.tensor([2.0, 0, 0], dtype=torch.float64)) == 1

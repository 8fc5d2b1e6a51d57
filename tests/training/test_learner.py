"""One update against AdamW done by hand, and what happens when a number is not finite."""

import pytest
import torch
from conftest import specimen

from npt_viz.training.capturing import captured
from npt_viz.training.learner import Diverged, Learner, gradients_of
from npt_viz.training.losses import TERMS, objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.student import student

LAYER = 2
LOSSES = "direct=1,attention_encoding=0.5,update_norm=0.01"
RECIPE = Recipe(steps=10, clip=1e9, weight_decay=0.1)


@pytest.fixture
def parts(tiny_llama):
    """(learner, a twin of its adapter, batches of tokens)"""
    tokens = captured(tiny_llama, [torch.randint(2, 258, (60,))], [LAYER]).layers[LAYER]
    batches = [tokens.rows(slice(0, 20)), tokens.rows(slice(20, 60))]
    twin = specimen(tiny_llama, "N5", LAYER).requires_grad_(True)
    return Learner(specimen(tiny_llama, "N5", LAYER), RECIPE), twin, batches


def update(model, learner, batches, losses=LOSSES, rate=1e-2, cosines=False):
    goal = objective(losses)
    found = [
        gradients_of(goal, {LAYER: student(model, learner.adapter, tokens)}, shared_ending=False)[LAYER]
        for tokens in batches
    ]
    return learner.update(goal, goal.weights_after(0), found, rate, cosines=cosines)


def totals(model, adapter, batches):
    return [
        sum(w * TERMS[n](student(model, adapter, b)) for n, w in objective(LOSSES).active.items())
        for b in batches
    ]


def test_updates_are_adamw_on_the_mean_of_the_weighted_sums(tiny_llama, parts):
    learner, twin, batches = parts
    optimiser = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        step = update(tiny_llama, learner, batches)
        optimiser.zero_grad()
        total = sum(totals(tiny_llama, twin, batches)) / 2
        total.backward()
        torch.testing.assert_close(step.total, total.item())
        whole = torch.cat([p.grad.flatten() for p in twin.parameters()])
        torch.testing.assert_close(step.grad_norm, whole.norm().item(), rtol=1e-4, atol=0)
        optimiser.step()
    for (name, made), expected in zip(learner.adapter.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_the_record_has_every_terms_value_weight_gradient_and_share(tiny_llama, parts):
    learner, twin, batches = parts
    step = update(tiny_llama, learner, batches[:1], cosines=True)
    terms = {name: TERMS[name](student(tiny_llama, twin, batches[0])) for name in objective(LOSSES).active}
    gradients = []
    for name, term in terms.items():
        torch.testing.assert_close(step.terms[name], term.item())
        gradient = torch.autograd.grad(
            term, list(twin.parameters()), retain_graph=True, materialize_grads=True
        )
        gradients.append(torch.cat([g.flatten() for g in gradient]))
        torch.testing.assert_close(step.grad_norms[name], gradients[-1].norm().item(), rtol=1e-4, atol=0)
    assert step.weights == {"direct": 1.0, "attention_encoding": 0.5, "update_norm": 0.01}
    assert step.weighted["attention_encoding"] == 0.5 * step.terms["attention_encoding"]
    assert sum(step.shares.values()) == pytest.approx(1)
    expected = torch.stack(
        [torch.stack([torch.cosine_similarity(a, b, dim=0) for b in gradients]) for a in gradients]
    )
    torch.testing.assert_close(torch.from_numpy(step.cosines).float(), expected, rtol=1e-3, atol=1e-4)


def test_adaptive_weights_even_out_the_gradients(tiny_llama, parts):
    learner, _, batches = parts
    goal = objective(LOSSES)
    found = gradients_of(
        goal, {LAYER: student(tiny_llama, learner.adapter, batches[0])}, shared_ending=False
    )[LAYER]
    even = objective(dict.fromkeys(goal.active, 1.0))
    even = type(even)(weights=even.weights, adaptive="gradient_norms")
    step = learner.update(even, even.weights_after(0), [found], 1e-3, cosines=False)
    pulls = [step.weights[name] * step.grad_norms[name] for name in step.terms]
    assert pulls == pytest.approx([pulls[0]] * 3) and sum(step.weights.values()) == pytest.approx(3)
    assert max(step.grad_norms.values()) > 5 * min(step.grad_norms.values()), "they were uneven"


def test_adamw_undoes_a_factor_on_the_gradient(tiny_llama, parts):
    learner, _, batches = parts
    scaled = Learner(specimen(tiny_llama, "N5", LAYER), RECIPE)
    for made, factor in ((learner, 1.0), (scaled, 1000.0)):
        goal = type(objective(LOSSES))(weights=objective(LOSSES).active, gradient_scale=factor)
        found = gradients_of(
            goal, {LAYER: student(tiny_llama, made.adapter, batches[0])}, shared_ending=False
        )[LAYER]
        step = made.update(goal, goal.weights_after(0), [found], 1e-2, cosines=False)
        made.norm = step.grad_norm
    assert scaled.norm == pytest.approx(1000 * learner.norm, rel=1e-4)
    for one, other in zip(learner.adapter.parameters(), scaled.adapter.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_clipping_bounds_the_gradient_and_the_record_keeps_its_size(tiny_llama, parts):
    _, _, batches = parts
    learner = Learner(specimen(tiny_llama, "N5", LAYER), Recipe(steps=10, clip=0.01))
    step = update(tiny_llama, learner, batches)
    whole = torch.cat([p.grad.flatten() for p in learner.adapter.parameters()])
    torch.testing.assert_close(whole.norm().item(), 0.01, rtol=1e-3, atol=0)
    assert step.grad_norm > 0.1


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_what_is_not_finite_stops_names_the_loss_and_brings_back_the_last_good_adapter(
    tiny_llama, parts, where
):
    learner, _, batches = parts
    update(tiny_llama, learner, batches)
    good = [parameter.detach().clone() for parameter in learner.adapter.parameters()]
    update(tiny_llama, learner, batches, rate=0.1)
    goal = objective(LOSSES)
    found = gradients_of(
        goal, {LAYER: student(tiny_llama, learner.adapter, batches[0])}, shared_ending=False
    )[LAYER]
    if where == "value":
        found[0]["attention_encoding"] = float("nan")
    else:
        found[1]["attention_encoding"][0][0] = float("inf")
    with pytest.raises(
        Diverged, match=r"loss attention_encoding of layer 2 is (nan|inf).*lower the learning rate"
    ):
        learner.update(goal, goal.weights_after(0), [found], 1e-2, cosines=False)
    assert all(torch.equal(a, b) for a, b in zip(good, learner.adapter.parameters(), strict=True))


def test_a_loss_that_depends_on_no_parameter_has_a_zero_gradient(tiny_llama, parts, monkeypatch):
    learner, _, batches = parts
    constant = type(TERMS["direct"])(
        formula="7", sentence="A constant.", corrected=lambda s: s.hidden.new_tensor(7.0)
    )
    monkeypatch.setitem(TERMS, "seven", constant)
    step = update(tiny_llama, learner, batches, losses="direct=1,seven=1")
    assert step.terms["seven"] == 7 and step.grad_norms["seven"] == 0


def test_the_state_goes_on_as_if_nothing_had_happened(tiny_llama, parts):
    learner, twin, batches = parts
    twin.load_state_dict(learner.adapter.state_dict())
    for _ in range(2):
        update(tiny_llama, learner, batches)
    twin.load_state_dict(learner.adapter.state_dict())
    other = Learner(twin, RECIPE)
    other.state = learner.state
    for made in (learner, other):
        update(tiny_llama, made, batches)
    for one, two in zip(learner.adapter.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("n_batches", [1, 2])
def test_gradients_in_another_memory_layout_move_the_same_entries(tiny_llama, parts, n_batches):
    """The gradients of several components come permuted, and AdamW's first step goes against their sign."""
    _, _, batches = parts
    learner = Learner(specimen(tiny_llama, "N5", LAYER), Recipe(steps=10, clip=1e9))
    goal = objective("direct=1")
    found = [
        gradients_of(goal, {LAYER: student(tiny_llama, learner.adapter, tokens)}, shared_ending=False)[LAYER]
        for tokens in batches[:n_batches]
    ]
    # Every axis in reverse order in memory, whatever the model gave.
    permuted = [
        (values, {"direct": [g.permute(2, 1, 0).contiguous().permute(2, 1, 0) for g in by_term["direct"]]})
        for values, by_term in found
    ]
    before = [parameter.detach().clone() for parameter in learner.adapter.parameters()]
    learner.update(goal, goal.weights_after(0), permuted, 1e-3, cosines=False)
    for i, (parameter, old) in enumerate(zip(learner.adapter.parameters(), before, strict=True)):
        gradient = sum(by_term["direct"][i] for _, by_term in found)
        clear = gradient.abs() > 1e-3 * gradient.abs().max()
        assert torch.equal((parameter.detach() - old)[clear].sign(), -gradient[clear].sign())

"""Alignment, shares, agreement and units against every ΔW written out as a matrix."""

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import SCALE, pooled_update, rank_one_update, tanh_update, vectors

from npt_viz.adapter import VARIANTS
from npt_viz.analysis.directions import (
    MAX_TOKENS,
    alignment,
    compared_tokens,
    component_shares,
    directions,
    exact_agreement,
    moved_units,
)
from npt_viz.analysis.updates import updates_of
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import views_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.directions import Unavailable

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]
TOKENS = np.arange(len(IDS))
WEIGHT_CHANGES = [
    name for name, variant in VARIANTS.items() if variant.semantics.rule.startswith(("rank_one", "low_rank"))
]
ADDITIVE = sorted(set(VARIANTS) - set(WEIGHT_CHANGES))


def seen(model, variant, components=3, **changes):
    adapter = specimen(model, variant, components=components)
    for name, value in changes.items():
        getattr(adapter.modulations["gate"], name).copy_(value)
    return views_of(model, {2: adapter}, IDS)[2]


def dense_update(variant, modulation, attention):
    if variant == "S0-pooled":
        return pooled_update(modulation, attention)
    rule = tanh_update if variant == "T1" else rank_one_update
    return rule(modulation, attention, SCALE.get(variant, 1.0))


def checkpoint_of(model, adapter):
    return Checkpoint.from_adapters({adapter.layer: adapter}, model, "specimen")


@pytest.mark.parametrize("variant", WEIGHT_CHANGES)
@pytest.mark.parametrize("components", [1, 3])
def test_alignment_is_the_cosine_of_the_flattened_weight_changes(tiny_llama, variant, components):
    view = seen(tiny_llama, variant, components)
    for target, modulation in view.adapter.modulations.items():
        read = [view.attention] * 11 if variant == "S0-pooled" else view.attention
        flat = torch.stack([dense_update(variant, modulation, a).flatten() for a in read])
        unit = flat / flat.norm(dim=-1, keepdim=True)
        found = alignment(view, target, TOKENS)
        np.testing.assert_allclose(found.cosines, unit @ unit.T, atol=1e-5)
        pairs = [(unit[i] @ unit[j]).item() for i in range(11) for j in range(i)]
        assert found.mean == pytest.approx(np.mean(pairs), abs=1e-5)


def test_alignment_of_random_rank_one_updates_spreads_as_stated(tiny_llama):
    found = alignment(seen(tiny_llama, "N1"), "gate", TOKENS)
    a, b = (torch.randn(4000, n) for n in (24, 31))
    cosines = torch.cosine_similarity(a[:2000], a[2000:]) * torch.cosine_similarity(b[:2000], b[2000:])
    assert found.random.sd == pytest.approx(cosines.std().item(), rel=0.1)


def test_an_isometric_adapter_has_the_alignment_of_its_attention(tiny_llama):
    """v_a = a and v_b = a, in other coordinates: cos(ΔW, ΔW') = cos(a, a')²."""
    adapter = specimen(tiny_llama, "N1", components=1, rank=24)
    gate = adapter.modulations["gate"]
    gate.W_down.copy_(torch.eye(24)[None])
    gate.W_a_up.copy_(torch.linalg.qr(torch.randn(24, 24)).Q[None])
    gate.W_b_up.copy_(torch.linalg.qr(torch.randn(31, 24)).Q.T[None])
    found = alignment(views_of(tiny_llama, {2: adapter}, IDS)[2], "gate", TOKENS)
    assert found.mean == pytest.approx(found.attention.mean, abs=1e-5)


def test_shares_of_components_are_projections_on_the_sum(tiny_llama):
    view = seen(tiny_llama, "N1")
    modulation = view.adapter.modulations["gate"]
    effects = torch.zeros(3, 11, 31, dtype=torch.float64)
    for t, a in enumerate(view.attention):
        for j in range(3):
            v_a, v_b = vectors(modulation, a, j)
            effects[j, t] = (v_a @ view.mlp_input[t].double()) * v_b
    total = effects.sum(0)
    found = component_shares(updates_of(view))
    np.testing.assert_allclose(found.shares, (effects * total).sum((1, 2)) / total.square().sum(), atol=1e-5)
    assert found.shares.sum() == pytest.approx(1)
    for i in range(3):
        for j in range(3):
            cosine = torch.cosine_similarity(effects[i], effects[j], dim=-1).mean()
            assert found.cosines[i, j] == pytest.approx(cosine.item(), abs=1e-5)


def test_a_single_component_has_nothing_to_share(tiny_llama):
    with pytest.raises(NptVizError, match="one component"):
        component_shares(updates_of(seen(tiny_llama, "N1", 1)))


@pytest.mark.parametrize("variant", ["N5", "T1"])
def test_agreement_is_the_cosine_with_the_exact_change(tiny_llama, variant):
    view = seen(tiny_llama, variant)
    for target, modulation in view.adapter.modulations.items():
        x, exact = view.read_by(target).double(), view.exact[target].double()
        added = torch.stack(
            [dense_update(variant, modulation, a) @ y for a, y in zip(view.attention, x, strict=True)]
        )
        found = exact_agreement(view, target, TOKENS)
        np.testing.assert_allclose(found.cosines, torch.cosine_similarity(added, exact, dim=-1), atol=1e-5)
        np.testing.assert_allclose(found.ratios, added.norm(dim=-1) / exact.norm(dim=-1), rtol=1e-4)


def test_the_exact_patch_agrees_with_itself_and_beats_the_updates_of_other_tokens(tiny_llama):
    """Down: v_b = a / ‖m‖², v_a = m for every token is the exact patch's direction, whatever the scalar."""
    adapter = specimen(tiny_llama, "N5", components=1, rank=24)
    down = adapter.modulations["down"]
    down.W_down.copy_(torch.eye(24)[None])
    down.W_b_up.copy_(torch.eye(24)[None])
    view = views_of(tiny_llama, {2: adapter}, IDS)[2]
    found = exact_agreement(view, "down", TOKENS)
    np.testing.assert_allclose(np.abs(found.cosines), 1, atol=1e-5)
    assert abs(found.shuffled.mean) < 0.9


def test_shuffled_agreement_depends_on_the_seed_alone(tiny_llama):
    view = seen(tiny_llama, "N1")
    once, again, other = (exact_agreement(view, "gate", TOKENS, seed=s).shuffled for s in (3, 3, 4))
    assert once == again
    assert once.mean != other.mean


def test_units_moved_most_are_those_of_the_written_out_change(tiny_llama):
    view = seen(tiny_llama, "N1")
    modulation = view.adapter.modulations["gate"]
    added = torch.stack(
        [
            dense_update("N1", modulation, a) @ z.double()
            for a, z in zip(view.attention, view.mlp_input, strict=True)
        ]
    )
    energy = added.square().sum(0)
    found = moved_units(view, "gate", TOKENS, top=5)
    assert found.units.tolist() == energy.argsort(descending=True)[:5].tolist()
    np.testing.assert_allclose(found.changes, added[:, found.units].T, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.energy_shares, energy[found.units] / energy.sum(), rtol=1e-4)
    np.testing.assert_allclose(found.own_sizes, view.gate[:, found.units].square().mean(0).sqrt(), rtol=1e-5)
    assert found.n_units == 31
    assert found.effective_units == pytest.approx(
        (energy.sum() ** 2 / energy.square().sum()).item(), rel=1e-4
    )


def test_sinks_are_left_out_unless_they_are_to_count(tiny_llama):
    checkpoint = checkpoint_of(tiny_llama, specimen(tiny_llama, "N1"))
    run = inspect(tiny_llama, checkpoint, IDS, logits=False)
    run.is_sink[0] = True
    assert directions(tiny_llama, checkpoint, run, 2).tokens.tolist() == list(range(1, 11))
    assert directions(tiny_llama, checkpoint, run, 2, keep_sinks=True).tokens.tolist() == list(range(11))


def test_a_long_prompt_is_sampled_and_says_so(tiny_llama):
    checkpoint = checkpoint_of(tiny_llama, specimen(tiny_llama, "N1"))
    run = inspect(tiny_llama, checkpoint, IDS, logits=False)
    long = type(run)(
        **{**run.__dict__, "pieces": run.pieces * 200, "layers": {}, "is_sink": np.zeros(2200, bool)}
    )
    tokens, notes = compared_tokens(long)
    assert len(tokens) == len(set(tokens)) == MAX_TOKENS
    assert tokens[0] == 0 and tokens[-1] == 2199
    assert "1024 evenly spaced tokens of the 2200" in notes[0]


def test_a_prompt_of_two_tokens_is_a_sentence(tiny_llama):
    checkpoint = checkpoint_of(tiny_llama, specimen(tiny_llama, "N1"))
    run = inspect(tiny_llama, checkpoint, [5, 9], logits=False)
    with pytest.raises(NptVizError, match="this prompt has 2; give a prompt with at least 3"):
        directions(tiny_llama, checkpoint, run, 2)


@pytest.mark.parametrize("variant", ADDITIVE)
def test_an_additive_rule_has_no_directions(tiny_llama, variant):
    checkpoint = checkpoint_of(tiny_llama, specimen(tiny_llama, variant))
    run = inspect(tiny_llama, checkpoint, IDS, logits=False)
    with pytest.raises(NptVizError, match="no ΔW, v_a, v_b or scalar"):
        directions(tiny_llama, checkpoint, run, 2)


def test_an_adapter_at_its_initialisation_has_sentences_in_place_of_results(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    adapter.modulations["gate"].W_b_up.zero_()
    checkpoint = checkpoint_of(tiny_llama, adapter)
    found = directions(tiny_llama, checkpoint, inspect(tiny_llama, checkpoint, IDS, logits=False), 2)
    for part in (found.alignment, found.components, found.units):
        assert isinstance(part, Unavailable) and "initialisation" in part.sentence
    assert np.isnan(found.exact.cosines).all()
    assert found.collapsed and [verdict.name for verdict in found.verdicts] == ["size"]


def test_a_layer_whose_mlp_sees_attention_has_no_exact_direction(tiny_llama):
    from dataclasses import replace

    adapter = specimen(tiny_llama, "N1")
    adapter.semantics = replace(adapter.semantics, attention="standard")
    view = views_of(tiny_llama, {2: adapter}, IDS)[2]
    with pytest.raises(NptVizError, match="keeps the base model's attention"):
        exact_agreement(view, "gate", TOKENS)

"""Verdicts on adapters made to have collapsed, and on healthy ones."""

import pytest
import torch
from conftest import specimen

from npt_viz.analysis.collapse import MIN_DIVERSITY, MIN_SCALAR_VARIATION, verdicts
from npt_viz.capture.layer_view import views_of
from npt_viz.errors import NptVizError

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66, 3, 18, 250, 41]


def judged(model, adapter, ids=IDS):
    """name -> verdict of the gate."""
    view = views_of(model, {adapter.layer: adapter}, ids)[adapter.layer]
    return {verdict.name: verdict for verdict in verdicts(view, "gate")}


def onto_one_direction(weight):
    """Every row of the bottleneck leads to the same output, but for a thousandth."""
    weight.copy_(0.001 * weight + torch.randn(weight.shape[1], 1) * torch.randn(weight.shape[2]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("variant", "components"), [("N1", 1), ("N5", 3), ("T1", 1), ("S2", 2)])
def test_a_random_adapter_has_not_collapsed(tiny_llama, variant, components, seed):
    found = judged(tiny_llama, specimen(tiny_llama, variant, components=components, seed=seed))
    assert [verdict.name for verdict in found.values() if verdict.collapsed] == []
    assert list(found) == ["size", "scalar", "s·v_b", "v_a"]


@pytest.mark.parametrize(("weight", "collapsed"), [("W_b_up", "s·v_b"), ("W_a_up", "v_a")])
@pytest.mark.parametrize("seed", range(4))
def test_vectors_put_onto_one_direction_have_collapsed_and_the_others_have_not(
    tiny_llama, weight, collapsed, seed
):
    adapter = specimen(tiny_llama, "N1", components=1, seed=seed)
    onto_one_direction(getattr(adapter.modulations["gate"], weight))
    found = judged(tiny_llama, adapter)
    assert [verdict.name for verdict in found.values() if verdict.collapsed] == [collapsed]
    verdict = found[collapsed]
    assert verdict.evidence["diversity"] < MIN_DIVERSITY / 5
    assert verdict.evidence["effective rank"] < 1.2
    assert "has collapsed towards one direction" in verdict.sentence


def test_diversity_compares_effective_ranks_above_one(tiny_llama):
    evidence = judged(tiny_llama, specimen(tiny_llama, "N1"))["s·v_b"].evidence
    assert evidence["diversity"] == pytest.approx(
        (evidence["effective rank"] - 1) / (evidence["redrawn adapter"] - 1)
    )


@pytest.mark.parametrize("factor", [1e-3, 0.0])
def test_an_adapter_too_small_to_matter_is_judged_by_its_size_alone(tiny_llama, factor):
    adapter = specimen(tiny_llama, "N1")
    adapter.modulations["gate"].W_b_up.mul_(factor * 0.1)
    found = judged(tiny_llama, adapter)
    assert list(found) == ["size"]
    assert found["size"].collapsed


def test_the_size_is_relative_to_the_projections_own_output(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    view = views_of(tiny_llama, {2: adapter}, IDS)[2]
    added = adapter.modulations["gate"].change(view.attention, view.mlp_input)
    expected = (added.norm(dim=-1) / view.gate.norm(dim=-1)).median().item()
    (relative,) = judged(tiny_llama, adapter)["size"].evidence.values()
    assert relative == pytest.approx(expected, rel=1e-4)


def test_a_scalar_that_is_the_same_at_every_token_has_collapsed(tiny_llama):
    """v_a reads one direction in which every token is given the same input and nearly the same attention."""
    view = views_of(tiny_llama, {2: specimen(tiny_llama, "N1", components=1)}, IDS)[2]
    direction = torch.nn.functional.normalize(torch.randn(24), dim=0)
    for rows, size in ((view.attention, 5.0), (view.mlp_input, 2.0)):
        rows += (size - rows @ direction)[:, None] * direction
    gate = view.adapter.modulations["gate"]
    gate.W_down.copy_((direction[:, None] * torch.randn(7))[None] + 1e-3 * gate.W_down)
    gate.W_a_up.copy_((torch.randn(7)[:, None] * direction)[None])
    found = {verdict.name: verdict for verdict in verdicts(view, "gate")}
    scalars = view.adapter.modulations["gate"].scalars(gate.bottleneck(view.attention), view.mlp_input)
    assert found["scalar"].collapsed
    assert found["scalar"].evidence["mean"] == pytest.approx(scalars.mean().item(), rel=1e-4)
    assert found["scalar"].evidence["sd / |mean|"] == pytest.approx(
        (scalars.std() / scalars.mean().abs()).item(), rel=1e-3
    )
    assert found["scalar"].evidence["sd / |mean|"] < MIN_SCALAR_VARIATION


def test_one_varying_component_is_enough_for_the_scalar(tiny_llama):
    found = judged(tiny_llama, specimen(tiny_llama, "N1", components=3))["scalar"]
    assert not found.collapsed
    assert "most varying of 3 components" in found.sentence


def test_rank_one_cannot_be_judged_by_its_directions(tiny_llama):
    found = judged(tiny_llama, specimen(tiny_llama, "N1", components=1, rank=1))
    assert not found["s·v_b"].collapsed and not found["v_a"].collapsed
    assert "cannot be judged" in found["s·v_b"].sentence


def test_one_long_vector_counts_alike_on_both_sides(tiny_llama):
    view = views_of(tiny_llama, {2: specimen(tiny_llama, "N1", components=1)}, IDS)[2]
    view.attention[4] *= 30
    found = {verdict.name: verdict for verdict in verdicts(view, "gate")}["s·v_b"]
    assert found.evidence["effective rank"] < 1.5
    assert not found.collapsed


def test_an_additive_rule_is_a_sentence(tiny_llama):
    view = views_of(tiny_llama, {2: specimen(tiny_llama, "S1-later")}, IDS)[2]
    with pytest.raises(NptVizError, match="no ΔW"):
        verdicts(view)

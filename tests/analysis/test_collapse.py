"""Verdicts on adapters made to have collapsed, and on healthy ones."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import mlp_of, rank_one_update
from sentence_checker import check

from npt_viz.adapter import LayerAdapter, RankOneSum, Semantics
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


def wide(k: int, rank: int, used: int, seed: int = 0) -> LayerAdapter:
    """Components that are all alike, of which `used` columns of the bottleneck are not zero."""
    draw = torch.Generator().manual_seed(seed)
    one = [torch.randn(*shape, generator=draw) for shape in ((24, rank), (rank, 24), (rank, 31))]
    one[1][used:], one[2][used:] = 0, 0
    # All directions of v_b are as long: none is lost for being short.
    gate = RankOneSum(*(0.3 * part.expand(k, *part.shape).clone() for part in one))
    return LayerAdapter(2, Semantics(), {"gate": gate}).eval().requires_grad_(False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("k", "rank", "used"), [(1, 23, 3), (4, 7, 7), (4, 19, 2), (1, 7, 7)])
def test_rank_that_is_not_used_and_components_that_are_alike_are_no_collapse(tiny_llama, k, rank, used, seed):
    """They leave what the layer computes as it is: few directions, and each of them counts."""
    found = judged(tiny_llama, wide(k, rank, used, seed))
    assert [verdict.name for verdict in found.values() if verdict.collapsed] == []
    assert "collapsed" not in " ".join(verdict.sentence for verdict in found.values())


def onto_first_axis(rows):
    axis = np.linalg.svd(rows)[2][0]
    return np.outer(rows @ axis, axis)


@pytest.mark.parametrize(("variant", "components"), [("N1", 1), ("N5", 3), ("S2", 2)])
def test_what_one_direction_would_lose_is_that_of_the_dense_layer(tiny_llama, variant, components):
    adapter = specimen(tiny_llama, variant, components=components)
    view = views_of(tiny_llama, {2: adapter}, IDS)[2]
    gate, scale = adapter.modulations["gate"], 0.1 if variant == "S2" else 1.0
    a, z = view.attention.numpy(), view.mlp_input.numpy()
    v_a = [a @ gate.W_down[j].numpy() @ gate.W_a_up[j].numpy() for j in range(components)]
    v_b = [scale * a @ gate.W_down[j].numpy() @ gate.W_b_up[j].numpy() for j in range(components)]
    added = sum((v_a[j] * z).sum(1, keepdims=True) * v_b[j] for j in range(components))
    read_by_one = sum((onto_first_axis(v_a[j]) * z).sum(1, keepdims=True) * v_b[j] for j in range(components))

    def output(on_the_gate):
        """The layer with this on its gate, and its own modulations on the other targets."""
        W_g, W_u, W_d = (getattr(mlp_of(tiny_llama, 2), name).numpy() for name in ("gate", "up", "down"))
        rows = []
        for t in range(len(a)):
            up, down = z[t] @ W_u.T, np.zeros(24)
            if "up" in adapter.targets:
                up = up + rank_one_update(adapter.modulations["up"], view.attention[t]).numpy() @ z[t]
            m = torch.nn.functional.silu(torch.tensor(z[t] @ W_g.T + on_the_gate[t])).numpy() * up
            if "down" in adapter.targets:
                down = rank_one_update(adapter.modulations["down"], view.attention[t]).numpy() @ m
            rows.append(W_d @ m + down)
        return np.array(rows)

    own, plain = output(added), view.unmodulated.numpy()
    np.testing.assert_allclose(own, view.output.numpy(), rtol=1e-3, atol=1e-4)
    found = {verdict.name: verdict.evidence for verdict in verdicts(view, "gate")}
    for name, changed in {"s·v_b": onto_first_axis(added), "v_a": read_by_one}.items():
        lost = (np.linalg.norm(output(changed) - own, axis=1) / np.linalg.norm(own - plain, axis=1)) ** 2
        ordered = np.sort(lost)
        vectors = {
            "s·v_b": added,
            "v_a": np.concatenate(
                [np.linalg.norm(b, axis=1, keepdims=True) * v for v, b in zip(v_a, v_b, strict=True)], axis=1
            ),
        }[name]
        energy = np.linalg.svd(vectors, compute_uv=False) ** 2
        assert found[name]["left out by one direction"] == pytest.approx(
            1 - energy[0] / energy.sum(), rel=2e-3
        )
        assert found[name]["lost with one direction"] == pytest.approx(np.median(lost), rel=2e-3)
        # 15 tokens: the 4th from either end covers the median at 95 %.
        assert found[name]["lost, at least"] == pytest.approx(ordered[3], rel=2e-3)
        assert found[name]["lost, at most"] == pytest.approx(ordered[-4], rel=2e-3)


def test_too_few_tokens_are_no_collapse(tiny_llama):
    adapter = specimen(tiny_llama, "N1", components=1)
    onto_one_direction(adapter.modulations["gate"].W_b_up)
    found = judged(tiny_llama, adapter, IDS[:5])["s·v_b"]
    assert not found.collapsed and "too few tokens tell" in found.sentence


@pytest.mark.parametrize("variant", ["N1", "N5", "S2", "T1"])
def test_a_verdict_says_what_its_evidence_says(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant, components=3)
    for onto in (None, "W_b_up", "W_a_up"):
        changed = deepcopy(adapter)
        if onto and variant != "T1":
            onto_one_direction(getattr(changed.modulations["gate"], onto))
        for verdict in judged(tiny_llama, changed).values():
            k = changed.modulations["gate"].components
            check(
                "verdict",
                verdict.sentence,
                {"verdict": verdict, "target": "gate", "components": k, "n": len(IDS)},
            )


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

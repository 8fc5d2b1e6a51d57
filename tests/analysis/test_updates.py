"""Factored vectors of every token against v_a, v_b and s written out, one token and component at a time."""

import pytest
import torch
from conftest import specimen
from literal import SCALE, vectors

from npt_viz.analysis.updates import Factored, redrawn, updates_of
from npt_viz.capture.layer_view import views_of

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]
SUMS = ("N1", "N5", "S2")


def seen(model, variant, components=3):
    return views_of(model, {2: specimen(model, variant, components=components)}, IDS)[2]


@pytest.mark.parametrize("variant", SUMS)
@pytest.mark.parametrize("components", [1, 3])
def test_vectors_and_effects_of_a_sum_are_those_of_the_formulas(tiny_llama, variant, components):
    view = seen(tiny_llama, variant, components)
    for target, modulation in view.adapter.modulations.items():
        updates = updates_of(view, target)
        total = torch.zeros_like(view.plain_output(target), dtype=torch.float64)
        for j in range(components):
            pairs = [vectors(modulation, a, j) for a in view.attention]
            v_a = torch.stack([pair[0] for pair in pairs])
            v_b = SCALE.get(variant, 1.0) * torch.stack([pair[1] for pair in pairs])
            s = (v_a * view.read_by(target)).sum(-1)
            torch.testing.assert_close(updates.inputs(j).vectors().double(), v_a, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(updates.outputs(j).vectors().double(), v_b, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(updates.scalars[:, j].double(), s, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                updates.effects(j).vectors().double(), s[:, None] * v_b, rtol=1e-4, atol=1e-4
            )
            total += s[:, None] * v_b
        torch.testing.assert_close(updates.effects().vectors().double(), total, rtol=1e-4, atol=1e-4)


def test_the_tanh_rule_has_one_component_a_fixed_direction(tiny_llama):
    view = seen(tiny_llama, "T1")
    modulation, updates = view.adapter.modulations["gate"], updates_of(view)
    strength = torch.tanh(view.attention @ modulation.A)
    for i in range(modulation.rank):
        torch.testing.assert_close(updates.inputs(i).vectors(), strength[:, i : i + 1] * modulation.A[:, i])
        assert (updates.outputs(i).vectors() == modulation.B[i]).all()
    torch.testing.assert_close(
        updates.effects().vectors(), ((view.mlp_input @ modulation.A) * strength) @ modulation.B
    )


@pytest.mark.parametrize("n_tokens", [3, 17])
def test_coordinates_keep_all_inner_products_in_few_columns(n_tokens):
    rows = Factored(torch.randn(n_tokens, 5), torch.randn(5, 31))
    coordinates = rows.coordinates()
    expected = rows.vectors().double()
    assert coordinates.shape[1] == (31 if n_tokens < 5 else 5)
    torch.testing.assert_close(coordinates @ coordinates.T, expected @ expected.T, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(rows.norms(), expected.norm(dim=-1), rtol=1e-5, atol=1e-5)


def test_another_tokens_update_reads_ones_own_input(tiny_llama):
    view = seen(tiny_llama, "N1", components=1)
    others = torch.tensor([3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    swapped = updates_of(view).with_attention_of(others)
    v_a, v_b = vectors(view.adapter.modulations["gate"], view.attention[3], 0)
    expected = (v_a @ view.mlp_input[0].double()) * v_b
    torch.testing.assert_close(swapped.effects().vectors()[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_redrawn_weights_keep_shape_and_size_and_nothing_else(tiny_llama):
    modulation = specimen(tiny_llama, "N1").modulations["gate"]
    before = {name: weight.clone() for name, weight in modulation.named_parameters()}
    twin = dict(redrawn(modulation, torch.Generator().manual_seed(5)).named_parameters())
    for name, weight in modulation.named_parameters():
        assert torch.equal(weight, before[name])
        assert abs(torch.corrcoef(torch.stack([weight.flatten(), twin[name].flatten()]))[0, 1]) < 0.2
        assert twin[name].norm() == pytest.approx(weight.norm().item(), rel=0.2)

"""The map and its spreads against the vectors written out and numpy's SVD."""

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import vectors

from npt_viz.analysis.direction_map import direction_map
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import views_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]


@pytest.fixture(scope="module")
def opened(tiny_llama):
    def made(variant="N1", components=3, change=None, ids=IDS):
        adapter = specimen(tiny_llama, variant, components=components)
        if change:
            change(adapter)
        checkpoint = Checkpoint.from_adapters({2: adapter}, tiny_llama, "specimen")
        return tiny_llama, checkpoint, inspect(tiny_llama, checkpoint, ids, logits=False), 2

    return made


def written_out(model, checkpoint, quantity, component):
    view = views_of(model, {2: checkpoint.adapter(2)}, IDS)[2]
    modulation = view.adapter.modulations["gate"]
    rows = []
    for a, z in zip(view.attention, view.mlp_input, strict=True):
        pairs = [vectors(modulation, a, j) for j in range(modulation.components)]
        match quantity:
            case "v_a" | "v_b":
                rows.append(pairs[component][quantity == "v_b"])
            case _ if component is None:
                rows.append(sum((v_a @ z.double()) * v_b for v_a, v_b in pairs))
            case _:
                rows.append((pairs[component][0] @ z.double()) * pairs[component][1])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize(("quantity", "component"), [("s·v_b", None), ("s·v_b", 2), ("v_b", 1), ("v_a", 0)])
def test_a_map_is_the_singular_value_decomposition_of_the_centred_vectors(opened, quantity, component):
    model, checkpoint, run, layer = opened()
    found = direction_map(model, checkpoint, run, layer, quantity=quantity, component=component)
    rows = written_out(model, checkpoint, quantity, component)
    U, sigma, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    for axis in range(2):
        expected = U[:, axis] * sigma[axis]
        sign = np.sign(expected @ found.coordinates[:, axis])
        np.testing.assert_allclose(found.coordinates[:, axis], sign * expected, atol=1e-4 * sigma[0])
    n_axes = len(found.explained)
    np.testing.assert_allclose(found.explained, (sigma**2 / (sigma**2).sum())[:n_axes], atol=1e-5)
    assert found.explained.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.norms, np.linalg.norm(rows, axis=1), rtol=1e-4)
    assert found.mean_norm == pytest.approx(np.linalg.norm(rows.mean(0)), rel=1e-4)
    sigma = np.linalg.svd(rows, compute_uv=False)
    p = sigma / sigma.sum()
    p = p[p > 1e-12]
    assert found.spread.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-3)
    assert found.spread.participation_ratio == pytest.approx(
        (sigma**2).sum() ** 2 / (sigma**4).sum(), rel=1e-3
    )


def test_v_b_without_a_component_is_that_of_the_first(opened):
    one, other = (direction_map(*opened(), quantity="v_b", component=j) for j in (None, 0))
    assert one.component == other.component == 0
    assert (one.coordinates == other.coordinates).all()


def test_the_ceiling_is_the_smallest_of_tokens_bottleneck_and_width(opened):
    assert direction_map(*opened(components=1), quantity="v_b").ceiling == 7
    assert direction_map(*opened(components=3)).ceiling == 11
    assert direction_map(*opened("T1")).ceiling == 7


def test_random_directions_use_about_as_many_directions_as_there_are_tokens(opened):
    found = direction_map(*opened(components=1), quantity="v_b")
    random = found.references[0]
    assert random.name.startswith("same norms, random directions")
    sigma, sds = [], []
    for _ in range(200):
        unit = torch.nn.functional.normalize(torch.randn(11, 31), dim=-1).numpy()
        vectors = found.norms[:, None] * unit
        sigma.append(np.linalg.svd(vectors, compute_uv=False))
        sds.append(np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)[:2] / np.sqrt(11))
    p = np.array(sigma) / np.sum(sigma, axis=1, keepdims=True)
    expected = np.exp(-(p * np.log(p)).sum(1))
    assert random.effective_rank.mean == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(8))
    np.testing.assert_allclose(found.random_sds, np.mean(sds, axis=0), rtol=0.1)
    assert random.effective_rank.n == 8
    assert random.effective_rank.sd < 4 * expected.std()


def test_attention_is_a_reference_and_only_s_v_b_has_a_shuffled_one(opened):
    model, checkpoint, run, layer = opened(components=1)
    of = {q: direction_map(model, checkpoint, run, layer, quantity=q) for q in ("s·v_b", "v_b")}
    assert [len(found.references) for found in of.values()] == [4, 3]
    attention = views_of(model, {2: checkpoint.adapter(2)}, IDS)[2].attention.double().numpy()
    sigma = np.linalg.svd(attention, compute_uv=False)
    last = of["v_b"].references[-1]
    assert last.participation_ratio.mean == pytest.approx((sigma**2).sum() ** 2 / (sigma**4).sum(), rel=1e-5)


def test_equal_seeds_give_equal_references(opened):
    once, again, other = (direction_map(*opened(), seed=s).references for s in (1, 1, 2))
    assert once == again != other


def test_a_single_direction_is_a_line_on_the_map(opened):
    def collapse(adapter):
        adapter.modulations["gate"].W_b_up.copy_(torch.randn(31).expand(1, 7, 31) * torch.randn(1, 7, 1))

    found = direction_map(*opened(components=1, change=collapse), quantity="v_b")
    assert found.explained.tolist() == [pytest.approx(1)]
    assert (found.coordinates[:, 1] == 0).all()
    assert found.spread.effective_rank == pytest.approx(1, abs=1e-3)


def test_equal_tokens_are_a_sentence(opened):
    """Without positions and with one token repeated, attention is the same everywhere."""
    model, checkpoint, _, layer = opened()
    run = inspect(model, checkpoint, [9] * 6, positions="trained", logits=False)
    with pytest.raises(NptVizError, match="all 6 vectors are equal"):
        direction_map(model, checkpoint, run, layer)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"quantity": "v_c"}, "there is no map of 'v_c'"),
        ({"component": 3}, "component 3 does not exist"),
        ({"target": "up"}, "does not modulate 'up'"),
    ],
)
def test_what_does_not_exist_is_a_sentence(opened, asked, sentence):
    with pytest.raises(NptVizError, match=sentence):
        direction_map(*opened(), **asked)


def test_the_tanh_rule_has_fixed_directions_and_says_so(opened):
    with pytest.raises(NptVizError, match="same v_b,i = B_i for every token"):
        direction_map(*opened("T1"), quantity="v_b", component=2)

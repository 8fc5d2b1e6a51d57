"""Energy shares against literal projections, angles against numpy's SVD of explicit bases."""

import numpy as np
import pytest
import torch
from conftest import specimen

from npt_viz.analysis.orthogonality import layer_orthogonality, orthogonality, reference_vectors
from npt_viz.analysis.updates import updates_of
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import views_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.directions import Unavailable

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66, 3, 18, 250, 41, 77, 130]
EVERY = np.ones(len(IDS), bool)
TEXTS = ("Monday, Tuesday, Wednesday. The sky is blue and so is the sea.", "", "Seven pens, thirteen cups.")


def opened(model, variant="N5", components=3, layers=(1, 3)):
    adapters = {layer: specimen(model, variant, layer, components=components, seed=layer) for layer in layers}
    checkpoint = Checkpoint.from_adapters(adapters, model, "specimen")
    return model, checkpoint, inspect(model, checkpoint, IDS, logits=False)


def top_axes(x, q, centred):
    """(q, dim) by numpy's SVD."""
    x = x.double().numpy()
    return np.linalg.svd(x - x.mean(0) * centred, full_matrices=False)[2][:q]


def literal_vectors(view, target):
    """(v_a, ‖v_b‖²): (component, token, inp) and (component, token), in float64."""
    updates = updates_of(view, target)
    both = [
        [(left.double() @ right.double()).numpy() for left, right in (updates.inputs(j), updates.outputs(j))]
        for j in range(updates.n_components)
    ]
    return np.stack([v_a for v_a, _ in both]), np.stack([(v_b**2).sum(-1) for _, v_b in both])


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("target", "of"), [("gate", "h"), ("up", "input"), ("down", "input")])
def test_the_share_is_the_energy_of_the_literal_projection(tiny_llama, target, of, centred):
    model, checkpoint, run = opened(tiny_llama)
    found = orthogonality(model, checkpoint, run, target=target, of=of, top=5, centred=centred)
    assert list(found.layers) == [1, 3]
    view = views_of(model, {3: checkpoint.adapter(3)}, IDS)[3]
    v_a, weights = literal_vectors(view, target)
    axes = top_axes(view.hidden if of == "h" else view.read_by(target), 5, centred)
    inside = (((v_a @ axes.T) @ axes) ** 2).sum(-1)
    share = (weights * inside).sum(0) / (weights * (v_a**2).sum(-1)).sum(0)
    layer = found.layers[3]
    np.testing.assert_allclose(layer.shares, share, rtol=1e-3)
    assert layer.share == pytest.approx(share.mean(), rel=1e-3)
    assert layer.curve[4] == pytest.approx(layer.share, rel=1e-6)
    assert layer.dim == (31 if target == "down" else 24)
    assert layer.of == {"gate": "h", "up": "z", "down": "m"}[target]


def test_both_published_numbers_are_the_mean_square_of_v_a_along_the_axes(tiny_llama):
    model, checkpoint, run = opened(tiny_llama)
    view = views_of(model, {1: checkpoint.adapter(1)}, IDS)[1]
    v_a, _ = literal_vectors(view, "gate")
    found = orthogonality(model, checkpoint, run, top=4, layers=[1]).layers[1]
    for value, centred in ((found.published, True), (found.published_uncentred, False)):
        assert value == pytest.approx(np.mean((v_a @ top_axes(view.hidden, 4, centred).T) ** 2), rel=1e-3)
    assert found.published_random == pytest.approx(np.mean((v_a**2).sum(-1)) / 24, rel=1e-4)


def test_the_share_along_the_mean_is_the_squared_cosine_with_it(tiny_llama):
    model, checkpoint, run = opened(tiny_llama, components=1)
    view = views_of(model, {1: checkpoint.adapter(1)}, IDS)[1]
    v_a, _ = literal_vectors(view, "gate")
    mean = view.hidden.double().numpy().mean(0)
    cosines = v_a[0] @ mean / np.linalg.norm(v_a[0], axis=-1) / np.linalg.norm(mean)
    found = orthogonality(model, checkpoint, run, layers=[1], top=3).layers[1]
    assert found.mean_share == pytest.approx((cosines**2).mean(), rel=1e-4)


@pytest.mark.parametrize(("variant", "components"), [("N1", 1), ("N1", 3), ("T1", 1)])
def test_principal_angles_are_those_of_explicit_bases(tiny_llama, variant, components):
    model, checkpoint, run = opened(tiny_llama, variant, components)
    view = views_of(model, {1: checkpoint.adapter(1)}, IDS)[1]
    v_a, weights = literal_vectors(view, "gate")
    rows = (np.sqrt(weights)[..., None] * v_a).reshape(-1, 24)
    main = np.linalg.svd(rows, full_matrices=False)[2][:5]
    cosines = np.linalg.svd(top_axes(view.hidden, 5, True) @ main.T, compute_uv=False)
    found = orthogonality(model, checkpoint, run, layers=[1], top=5).layers[1]
    np.testing.assert_allclose(found.angles, np.rad2deg(np.arccos(cosines.clip(0, 1))), atol=0.05)


def test_random_angles_are_those_of_random_subspaces(tiny_llama):
    found = orthogonality(*opened(tiny_llama), layers=[1], top=5).layers[1]
    draws = []
    for _ in range(300):
        one, other = (np.linalg.qr(np.random.default_rng().normal(size=(24, 5)))[0] for _ in range(2))
        cosines = np.linalg.svd(one.T @ other, compute_uv=False)
        draws.append(np.rad2deg(np.arccos(cosines.clip(0, 1))))
    for baseline, angles in zip(found.random_angles, np.transpose(draws), strict=True):
        assert baseline.mean == pytest.approx(angles.mean(), abs=5 * angles.std() / 8)
        assert baseline.n == 64


def test_the_share_of_random_vectors_is_as_stated(tiny_llama):
    found = orthogonality(*opened(tiny_llama), layers=[1], top=5).layers[1]
    x = torch.randn(20_000, 24).numpy()
    shares = (x[:, :5] ** 2).sum(1) / (x**2).sum(1)
    assert found.random.mean == 5 / 24
    assert shares.mean() == pytest.approx(found.random.mean, rel=0.02)
    assert shares.std() == pytest.approx(found.random.sd, rel=0.02)


def test_vectors_inside_and_outside_the_common_directions_are_told_apart(tiny_llama):
    model, checkpoint, run = opened(tiny_llama, "N1", 1, layers=(1,))
    view = views_of(model, {1: checkpoint.adapter(1)}, IDS)[1]
    axes = torch.tensor(np.linalg.svd(view.hidden.numpy() - view.hidden.numpy().mean(0))[2]).float()
    up = checkpoint.adapter(1).modulations["gate"].W_a_up
    up.copy_(torch.randn(1, 7, 3) @ axes[:3])
    inside = orthogonality(model, checkpoint, run, top=3).layers[1]
    assert inside.share == pytest.approx(1, abs=1e-4)
    assert inside.angles[0] < 1
    up.copy_(torch.randn(1, 7, 10) @ axes[-10:])
    outside = orthogonality(model, checkpoint, run, top=3).layers[1]
    assert outside.share < 1e-4
    assert outside.angles[0] > 89


def test_rescaling_v_a_against_v_b_changes_the_published_number_and_no_share(tiny_llama):
    """The gauge: (c v_a, v_b / c) is the same update."""
    model, checkpoint, run = opened(tiny_llama, layers=(1,))
    before = orthogonality(model, checkpoint, run, top=4).layers[1]
    gate = checkpoint.adapter(1).modulations["gate"]
    gate.W_a_up[1] *= 5
    gate.W_b_up[1] /= 5
    after = orthogonality(model, checkpoint, run, top=4).layers[1]
    np.testing.assert_allclose(after.shares, before.shares, rtol=1e-4)
    np.testing.assert_allclose(after.angles, before.angles, atol=0.05)
    assert after.published > 2 * before.published


def test_sinks_count_neither_in_the_axes_nor_in_the_mean_unless_they_are_to(tiny_llama):
    model, checkpoint, run = opened(tiny_llama)
    run.is_sink[0] = True
    view = views_of(model, {1: checkpoint.adapter(1)}, IDS)[1]
    left_out = orthogonality(model, checkpoint, run, layers=[1], top=4).layers[1]
    expected = layer_orthogonality(view, view.hidden[1:], EVERY & ~run.is_sink, top=4)
    assert left_out.n_reference == 16 and left_out.left_out.tolist() == run.is_sink.tolist()
    assert left_out.share == expected.share == pytest.approx(np.mean(left_out.shares[1:]))
    kept = orthogonality(model, checkpoint, run, layers=[1], top=4, keep_sinks=True).layers[1]
    assert kept.n_reference == 17 and not kept.left_out.any()


@pytest.mark.parametrize("mode", ["local", "propagated"])
def test_a_reference_text_gives_the_axes_and_the_prompt_the_vectors(tiny_llama, mode):
    model, checkpoint, _ = opened(tiny_llama)
    run = inspect(model, checkpoint, IDS, mode=mode, logits=False)
    reference = reference_vectors(model, checkpoint, TEXTS, mode=mode, keep_sinks=True)
    found = orthogonality(model, checkpoint, run, reference=reference, top=4, keep_sinks=True)
    adapters = {layer: checkpoint.adapter(layer) for layer in (1, 3)}
    windows = [model.tokenizer(text)["input_ids"] for text in TEXTS if text]
    rows = [views_of(model, adapters, ids, mode=mode)[3].hidden for ids in windows]
    view = views_of(model, adapters, IDS, mode=mode)[3]
    expected = layer_orthogonality(view, torch.cat(rows), EVERY, top=4)
    assert found.layers[3].n_reference == sum(map(len, windows))
    np.testing.assert_allclose(found.layers[3].shares, expected.shares, rtol=1e-6)
    assert not found.from_prompt


def test_a_text_longer_than_the_context_is_read_in_windows(tiny_llama):
    model, checkpoint, _ = opened(tiny_llama)
    found = reference_vectors(model, checkpoint, ["abcdefg " * 40], layers=[1], target="down", of="input")
    assert found[1].shape == (320, 31)


def test_sinks_of_a_reference_text_count_only_if_they_are_to(tiny_llama):
    model, checkpoint, _ = opened(tiny_llama)
    hook = model.hf.model.embed_tokens.register_forward_hook(
        lambda module, args, output: torch.cat([100 * output[:, :1], output[:, 1:]], dim=1)
    )
    try:
        counts = [
            len(reference_vectors(model, checkpoint, ["Monday, Tuesday"], keep_sinks=keep)[1])
            for keep in (False, True)
        ]
    finally:
        hook.remove()
    assert counts == [14, 15]


def test_a_layer_without_such_a_target_has_no_reference_vectors(tiny_llama):
    adapters = {
        1: specimen(tiny_llama, "N1", 1),
        2: specimen(tiny_llama, "N4", 2),
        3: specimen(tiny_llama, "S0", 3),
    }
    checkpoint = Checkpoint.from_adapters(adapters, tiny_llama, "specimen")
    assert list(reference_vectors(tiny_llama, checkpoint, TEXTS, target="up")) == [2]


def test_isotropic_vectors_stay_below_the_isotropic_edge(tiny_llama):
    view = views_of(tiny_llama, {1: specimen(tiny_llama, "N1", 1)}, IDS)[1]
    found = layer_orthogonality(view, torch.randn(400, 24), EVERY, top=4)
    assert found.explained[0] == pytest.approx(found.isotropic_edge, rel=0.12)
    assert found.explained.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("top", "sentence"), [(17, "have at most 16 principal axes and 17 are"), (24, "all of the 24")]
)
def test_too_few_tokens_for_the_axes_is_a_sentence(tiny_llama, top, sentence):
    found = orthogonality(*opened(tiny_llama), top=top).layers[1]
    assert isinstance(found, Unavailable) and sentence in found.sentence


def test_a_reference_text_shorter_than_q_is_a_sentence(tiny_llama):
    model, checkpoint, run = opened(tiny_llama)
    reference = reference_vectors(model, checkpoint, ["cat"])
    found = orthogonality(model, checkpoint, run, reference=reference, top=5).layers[1]
    assert "3 tokens have at most 2 principal axes and 5 are asked for" in found.sentence


def test_few_tokens_for_each_axis_are_noted(tiny_llama):
    assert "17 tokens, fewer than 5 an axis" in orthogonality(*opened(tiny_llama), top=4).layers[1].notes[0]
    assert orthogonality(*opened(tiny_llama), top=3).layers[1].notes == ()


def test_equal_tokens_have_no_axes_and_say_so(tiny_llama):
    model, checkpoint, _ = opened(tiny_llama)
    run = inspect(model, checkpoint, [9] * 8, positions="trained", logits=False)
    found = orthogonality(model, checkpoint, run, top=2).layers[1]
    assert isinstance(found, Unavailable) and "all 8 vectors are equal" in found.sentence


@pytest.mark.parametrize(
    ("variant", "asked", "sentence"),
    [
        ("N5", {"target": "down"}, "v_a of the down target has 31 dimensions and h has 24"),
        ("N1", {"target": "up"}, "does not modulate 'up'"),
        ("S0", {}, "no ΔW, v_a, v_b or scalar"),
    ],
)
def test_a_layer_without_an_answer_is_a_sentence(tiny_llama, variant, asked, sentence):
    found = orthogonality(*opened(tiny_llama, variant), top=3, **asked)
    assert all(
        isinstance(layer, Unavailable) and sentence in layer.sentence for layer in found.layers.values()
    )


def test_nonsense_is_refused(tiny_llama):
    model, checkpoint, run = opened(tiny_llama)
    with pytest.raises(NptVizError, match="at least 1, got 0"):
        orthogonality(model, checkpoint, run, top=0)
    with pytest.raises(NptVizError, match="the reference text has no tokens"):
        reference_vectors(model, checkpoint, [""])


def test_at_the_initialisation_one_component_can_be_read_and_several_cannot(tiny_llama):
    for components, readable in ((1, True), (3, False)):
        model, checkpoint, run = opened(tiny_llama, "N1", components)
        for layer in (1, 3):
            checkpoint.adapter(layer).modulations["gate"].W_b_up.zero_()
        found = orthogonality(model, checkpoint, run, top=3).layers[1]
        assert isinstance(found, Unavailable) is not readable

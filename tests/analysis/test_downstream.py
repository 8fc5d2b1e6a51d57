"""Predictions of every version of the model against separate runs, torch.distributions and hand-made perplexities."""

import numpy as np
import pytest
import torch
from conftest import specimen
from torch.distributions import Categorical, kl_divergence

from npt_viz.analysis import downstream as module
from npt_viz.analysis.downstream import Version, cost, downstream, versions_of
from npt_viz.capture.running import NoAttention, changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError

TEXTS = [[0, 72, 103, 31, 31, 200, 5, 97, 14], [3, 140, 66, 19, 7]]
VARIANTS = {1: "N4", 2: "N2", 4: "N1"}


@pytest.fixture(scope="module")
def checkpoint(tiny_llama):
    adapters = {layer: specimen(tiny_llama, v, layer, seed=layer) for layer, v in VARIANTS.items()}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


@pytest.fixture(scope="module")
def found(tiny_llama, checkpoint):
    return downstream(tiny_llama, checkpoint, TEXTS)


def logits(model, lane, ids, positions="deployed"):
    with changed(model, [lane], positions=positions), torch.no_grad():
        return model.hf(torch.tensor([ids])).logits[0]


def lane_of(checkpoint, layers, modulated):
    if modulated:
        return {layer: checkpoint.adapter(layer) for layer in layers}
    return {layer: NoAttention(attention=checkpoint.adapter(layer).attention) for layer in layers}


@pytest.mark.parametrize("layers", [(1,), (1, 2), (1, 2, 4), (2,), (4,)])
@pytest.mark.parametrize("modulated", [True, False])
def test_each_arm_is_a_separate_run_of_its_layers(tiny_llama, checkpoint, found, layers, modulated):
    run = found.arm(layers).npt if modulated else found.arm(layers).off
    kl, nll, agrees = [], [], []
    for ids in TEXTS:
        base = logits(tiny_llama, {}, ids)
        other = logits(tiny_llama, lane_of(checkpoint, layers, modulated), ids)
        kl.append(kl_divergence(Categorical(logits=base), Categorical(logits=other)))
        nll += [*(-other[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]).tolist(), np.nan]
        agrees += (base.argmax(-1) == other.argmax(-1)).tolist()
    np.testing.assert_allclose(run.kl, torch.cat(kl), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(run.nll, nll, rtol=1e-4)
    assert run.agrees.tolist() == agrees


def test_the_arms_are_the_whole_each_layer_and_the_cascade_from_below(found):
    assert [arm.layers for arm in found.arms] == [(1,), (1, 2), (1, 2, 4), (2,), (4,)]
    assert [arm.layers for arm in found.alone] == [(1,), (2,), (4,)]
    assert [arm.layers for arm in found.cumulative] == [(1,), (1, 2), (1, 2, 4)]
    assert found.whole.layers == (1, 2, 4)


def test_perplexity_is_over_every_token_that_has_a_next_one(tiny_llama, found):
    nll = [
        -logits(tiny_llama, {}, ids).log_softmax(-1)[i, ids[i + 1]].item()
        for ids in TEXTS
        for i in range(len(ids) - 1)
    ]
    assert len(nll) == 12
    assert found.perplexity_base == pytest.approx(np.exp(sum(nll) / 12), rel=1e-5)
    run = found.whole.npt
    assert run.perplexity == pytest.approx(np.exp(np.nansum(run.nll) / 12), rel=1e-5)


def test_the_share_recovered_compares_medians_with_the_modulation_off(found):
    arm = found.arm((4,))
    assert arm.share_recovered == pytest.approx(1 - np.median(arm.npt.kl) / np.median(arm.off.kl))


def test_drift_is_zero_up_to_the_first_changed_layer(found):
    for arm in found.arms:
        first = arm.layers[0]
        for run in (arm.npt, arm.off):
            assert run.drift.shape == (6,)
            assert (run.drift[: first + 1] < 1e-6).all() and (run.drift[first + 1 :] > 1e-3).all()


def test_groups_of_lanes_give_the_same_numbers_as_all_at_once(tiny_llama, checkpoint, found, monkeypatch):
    monkeypatch.setattr(module, "LANE_BYTES", 1)
    one_by_one = downstream(tiny_llama, checkpoint, TEXTS)
    for a, b in zip(found.arms, one_by_one.arms, strict=True):
        np.testing.assert_allclose(a.npt.kl, b.npt.kl, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(a.off.drift, b.off.drift, rtol=1e-4, atol=1e-6)


def test_trained_positions_run_both_models_without_rope(tiny_llama, checkpoint):
    found = downstream(tiny_llama, checkpoint, TEXTS, positions="trained", each_layer=False)
    base = logits(tiny_llama, {}, TEXTS[1], "trained")
    npt = logits(tiny_llama, lane_of(checkpoint, (1, 2, 4), True), TEXTS[1], "trained")
    expected = kl_divergence(Categorical(logits=base), Categorical(logits=npt))
    np.testing.assert_allclose(found.whole.npt.kl[9:], expected, rtol=1e-3, atol=1e-6)
    assert [arm.layers for arm in found.arms] == [(1, 2, 4)]


def test_cutting_a_sequence_changes_nothing_before_the_cut_and_is_said(tiny_llama, checkpoint):
    cut = downstream(tiny_llama, checkpoint, TEXTS, window=4, each_layer=False)
    assert cut.notes == ("2 of 2 sequences are cut to their first 4 tokens",)
    whole = downstream(tiny_llama, checkpoint, [TEXTS[0]], each_layer=False)
    np.testing.assert_allclose(cut.whole.npt.kl[:4], whole.whole.npt.kl[:4], rtol=1e-4, atol=1e-6)
    one = downstream(tiny_llama, checkpoint, TEXTS * 2, window=4, max_sequences=1, each_layer=False)
    assert one.notes == (
        "the first 4 of 9 tokens; what follows cannot change them",
        "the first 1 of 4 sequences",
    )


def test_one_token_has_a_kl_and_no_perplexity(tiny_llama, checkpoint):
    found = downstream(tiny_llama, checkpoint, [[7]])
    assert np.isnan(found.perplexity_base) and np.isfinite(found.whole.npt.median_kl)
    assert found.problem is None


def test_layers_that_keep_attention_have_nothing_to_recover(tiny_llama):
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, "S0-residual")}, tiny_llama, "S0")
    found = downstream(tiny_llama, checkpoint, TEXTS)
    assert "layer 2 already predicts" in found.problem
    assert np.isnan(found.whole.share_recovered) and found.whole.npt.median_kl > 0


def test_a_text_is_needed(tiny_llama, checkpoint):
    with pytest.raises(NptVizError, match="reference text is empty"):
        downstream(tiny_llama, checkpoint, [])


def test_a_prompt_is_one_sequence_and_progress_counts_lanes(tiny_llama, checkpoint):
    steps = []
    found = downstream(
        tiny_llama, checkpoint, "Hello you", progress=lambda done, all_: steps.append((done, all_))
    )
    assert found.n_sequences == 1 and len(found.tokens) == len(found.position) == 9
    assert steps[-1] == (10, 10)


def test_the_cost_counts_what_lanes_share(tiny_llama):
    assert versions_of((3,)) == [Version((3,), True), Version((3,), False)]
    uncascaded = [version.layers for version in versions_of((2, 3, 5), cascade=False)]
    assert uncascaded == [on for on in [(2, 3, 5), (2,), (3,), (5,)] for _ in range(2)]
    # Three layers below run once, two layers run in three lanes.
    assert cost(tiny_llama, [3], 7) == pytest.approx((3 + 3 * 2) / 5)

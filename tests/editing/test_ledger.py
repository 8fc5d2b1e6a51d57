"""Base + ledger: what is applied, what is undone, and that the base never changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.capture.inspection import inspect
from npt_viz.capture.running import changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.ledger import Entry, Ledger
from npt_viz.editing.making.from_source import update_from
from npt_viz.errors import NptVizError
from npt_viz.results.comparison import COMPARED
from npt_viz.results.inspection import METRICS

IDS = torch.tensor([[0, 72, 103, 31, 31, 200, 5]])


@pytest.fixture(scope="module")
def updates(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N5", layer, seed=layer) for layer in (1, 3)}
    npt = Checkpoint.from_adapters(adapters, tiny_llama, "specimen")
    texts = ("one", "two of them", "and a third", "x")
    return [
        update_from(tiny_llama, npt, text, layer=(1, 3)[i % 2], alpha=0.3 + i) for i, text in enumerate(texts)
    ]


def logits(ledger):
    with changed(ledger.model, [ledger.lane()]):
        return ledger.model.hf(IDS).logits


@pytest.mark.slow
def test_200_random_sequences_of_apply_and_undo_end_at_the_base_bit_for_bit(tiny_llama, updates):
    before = {name: tensor.clone() for name, tensor in tiny_llama.hf.state_dict().items()}
    base = tiny_llama.hf(IDS).logits
    rng = np.random.default_rng(0)
    for sequence in range(200):
        ledger = Ledger(tiny_llama)
        for _ in range(rng.integers(1, 9)):
            if len(ledger) and rng.random() < 0.4:
                ledger.undo(int(rng.choice([entry.number for entry in ledger.entries])))
            else:
                ledger.apply(updates[rng.integers(len(updates))] * float(rng.normal()))
        if sequence % 20 == 0 and len(ledger):
            assert not torch.equal(logits(ledger), base)
        for number in rng.permutation([entry.number for entry in ledger.entries]):
            ledger.undo(int(number))
        assert torch.equal(logits(ledger), base)
    for name, tensor in tiny_llama.hf.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_undoing_one_of_three_leaves_what_the_other_two_alone_give(tiny_llama, updates):
    three, two = Ledger(tiny_llama), Ledger(tiny_llama)
    first, middle, _ = three.apply_all(updates[:3])
    two.apply_all([updates[0], updates[2]])
    assert three.undo(middle.number).update is updates[1]
    assert torch.equal(logits(three), logits(two))
    assert [entry.number for entry in three.entries] == [1, 3]
    assert three.apply(updates[1]).number == 4  # A number is never used again.
    assert three.undo().number == 4
    three.undo_all()
    assert len(three) == 0 and torch.equal(logits(three), tiny_llama.hf(IDS).logits)
    assert first.sentence.startswith("#1: npt, layer 1, token e #2, α = 0.3, from “one”")


def test_an_entry_is_named_by_its_first_origin_and_the_end_of_a_long_source(updates):
    origin = replace(updates[0].origins[0], prompt="line one\n  " + 51 * "x")
    assert Entry(2, replace(updates[0], origins=(origin,))).sentence.endswith(f"from “line one {51 * 'x'}”")
    longer = replace(origin, prompt=origin.prompt + "y")
    assert Entry(2, replace(updates[0], origins=(longer,))).sentence.endswith(f"from “…ne one {51 * 'x'}y”")
    several = Entry(3, updates[0] + updates[1] + updates[2])
    assert "token e #2 and 2 more, α = 1, from “one”" in several.sentence
    assert Entry(4, replace(updates[0], origins=())).sentence == "#4: layer 1, α = 0.3"


def test_a_ledger_moves_to_the_same_base_opened_again_and_to_no_other(tiny_llama, updates):
    ledger = Ledger(tiny_llama)
    ledger.apply_all(updates[:2])
    again = tiny_model()
    moved = ledger.moved_to(again)
    assert moved.model is again and moved.entries == ledger.entries
    assert moved.apply(updates[2]).number == 3 and len(ledger) == 2
    other = tiny_model()
    other.parts(3).up.weight.add_(1)
    with pytest.raises(NptVizError, match="layer 3 of tiny has another fingerprint"):
        ledger.moved_to(other)


def test_undoing_what_is_not_there_is_a_sentence(tiny_llama, updates):
    ledger = Ledger(tiny_llama)
    with pytest.raises(NptVizError, match="the ledger is empty"):
        ledger.undo()
    ledger.apply_all(updates[:2])
    with pytest.raises(NptVizError, match=r"no entry #7; choose among #1, #2$"):
        ledger.undo(7)
    assert len(ledger) == 2


def test_a_refused_update_leaves_the_ledger_as_it_was(tiny_llama, updates):
    ledger = Ledger(tiny_llama)
    ledger.apply(updates[0])
    other = tiny_model()
    other.parts(1).up.weight.add_(1)
    foreign = update_from(
        other, Checkpoint.from_adapters({1: specimen(other, "N1", 1)}, other, "other"), "one", layer=1
    )
    with pytest.raises(NptVizError, match="another base model"):
        ledger.apply_all([updates[1], foreign])
    assert ledger.updates == (updates[0],)


def test_a_weight_that_would_overflow_its_dtype_is_refused():
    half = tiny_model(dtype=torch.float16)
    npt = Checkpoint.from_adapters({1: specimen(half, "N1", 1)}, half, "specimen")
    update = update_from(half, npt, "one", layer=1)
    ledger = Ledger(half)
    ledger.apply(update)
    with pytest.raises(NptVizError, match=r"gate_proj.weight would not be finite in float16"):
        ledger.apply(update * (1e6 / update.norm()))
    assert len(ledger) == 1


def test_a_report_holds_the_realised_edit_against_the_dense_one(tiny_llama, updates):
    ledger = Ledger(tiny_llama)
    ledger.apply_all([0.01 * update for update in updates])
    report = ledger.report()
    for row in report.edits:
        weight = tiny_llama.hf.get_parameter(row.parameter).numpy().astype(np.float64)
        requested = sum(
            update.alpha * parts.v_b.astype(np.float64).T @ parts.v_a
            for update in ledger.updates
            for place, parts in update.factors.items()
            if place.parameter == row.parameter
        )
        dtype = getattr(torch, row.dtype)
        stored = torch.from_numpy(weight).to(dtype).double().numpy()
        realised = (
            torch.from_numpy((weight + requested).astype(np.float32)).to(dtype).double().numpy() - stored
        )
        assert row.requested_norm == pytest.approx(np.linalg.norm(requested), rel=1e-5)
        assert row.relative_norm == pytest.approx(
            np.linalg.norm(requested) / np.linalg.norm(weight), rel=1e-5
        )
        cosine = (requested * realised).sum() / np.linalg.norm(requested) / np.linalg.norm(realised)
        assert row.cosine == pytest.approx(cosine, abs=2e-3)
        assert row.changed == pytest.approx((realised != 0).mean(), abs=5e-3)
        assert row.finite
        sizes = report.singular_values[row.parameter]
        np.testing.assert_allclose(
            sizes, np.linalg.svd(requested, compute_uv=False)[: len(sizes)], atol=1e-5 * sizes[0]
        )
    exact, half = ([row for row in report.edits if row.dtype == dtype] for dtype in ("float32", "bfloat16"))
    assert all(a.cosine > b.cosine and a.changed > b.changed for a, b in zip(exact, half, strict=True))


def test_rounding_to_bf16_loses_most_of_a_tiny_edit(tiny_llama, updates):
    """docs/mathematics.md §12: at ‖ΔW‖/‖W‖ = 1e-4 little of the edit survives in bfloat16."""
    ledger = Ledger(tiny_llama)
    ledger.apply(updates[0])
    size = ledger.report().edits[0].relative_norm
    ledger.undo()
    ledger.apply(updates[0] * (1e-4 / size))
    row = next(row for row in ledger.report(("bfloat16",)).edits if "gate" in row.parameter)
    assert row.changed < 0.1 and row.cosine < 0.6


@pytest.mark.parametrize(("mode", "positions"), [("local", "deployed"), ("propagated", "trained")])
def test_an_inspection_on_a_ledger_is_that_of_a_model_whose_weights_are_edited(
    tiny_llama, updates, mode, positions
):
    ledger = Ledger(tiny_llama)
    ledger.apply_all(updates)
    edited = tiny_model()
    for update in updates:
        for place, parts in update.factors.items():
            weight = getattr(edited.parts(place.layer), place.target).weight
            with torch.no_grad():
                weight += update.alpha * torch.from_numpy(parts.v_b.T @ parts.v_a)
    adapters = {layer: specimen(tiny_llama, "N5", layer, seed=7 + layer) for layer in (0, 1, 4)}
    npt = Checkpoint.from_adapters(adapters, None, "specimen")
    asked = {"prompt": "a cat", "mode": mode, "positions": positions}
    found, expected = inspect(tiny_llama, npt, **asked, edits=ledger), inspect(edited, npt, **asked)
    plain = inspect(tiny_llama, npt, **asked)
    for metric in COMPARED:
        of_model = metric not in METRICS
        for layer in (4,) if of_model else adapters:
            columns = [
                getattr(run, metric) if of_model else run.layers[layer].values(metric)
                for run in (found, expected, plain)
            ]
            np.testing.assert_allclose(columns[0], columns[1], rtol=2e-3, atol=1e-5, err_msg=metric)
            # Layer 0 lies below every edit.
            if np.isfinite(columns[0]).any() and layer == 4:
                assert not np.allclose(columns[0], columns[2], rtol=5e-3, atol=1e-5, equal_nan=True), metric
    assert (found.n_edits, plain.n_edits) == (4, 0)
    # No hook is left.
    again = inspect(tiny_llama, npt, **asked)
    np.testing.assert_array_equal(again.nll_npt, plain.nll_npt)

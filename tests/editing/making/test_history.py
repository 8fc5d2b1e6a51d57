"""Histories of published tools, in both layouts that were seen."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import LiteralLlama, rank_one_update, vectors

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.making.history import updates_from_history
from npt_viz.editing.updates import Place
from npt_viz.errors import NptVizError
from npt_viz.model.fair_lock import FairLock
from npt_viz.model.tokens import encode

FACT = "The cat is blue"


@pytest.fixture(scope="module")
def npt(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N4", layer, seed=layer) for layer in (1, 3)}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


def entry(**more):
    return {"fact": FACT, "alpha": 1.5, "position": "last", "projections_modified": ["gate", "up"], **more}


def replayed(tmp_path, content, model, npt):
    (tmp_path / "injection_history.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    return updates_from_history(tmp_path / "injection_history.json", model, npt)


def attention(model, layer, below=None):
    """Without RoPE, as the published tool reads it. below: layer -> adapter, run as NPT layers."""
    lane = {each: ("N4", adapter) for each, adapter in (below or {}).items()}
    ids = torch.tensor(encode(model, FACT).ids)
    return LiteralLlama(model).run(ids, lane, rope=False)[0][layer].attention


def dense(update, place):
    parts = update.factors[place]
    return update.alpha * parts.v_b.astype(np.float64).T @ parts.v_a


def with_weight(model, place, added):
    """A copy of the base with one weight changed for good, as the published tool leaves it."""
    other = replace(model, hf=copy.deepcopy(model.hf), lock=FairLock())
    with torch.no_grad():
        getattr(other.parts(place.layer), place.target).weight += torch.as_tensor(added).float()
    return other


def sizes(model, npt, place, read, alpha):
    """The figures that the published tool writes for one projection; read: a at the chosen token."""
    modulation = npt.adapter(place.layer).modulations[place.target]
    pairs = [vectors(modulation, read, j) for j in range(modulation.components)]
    added = alpha * rank_one_update(modulation, read)
    before = getattr(model.parts(place.layer), place.target).weight.double()
    keys = {"gate": "gate", "up": "up"}[place.target]
    return added, {
        f"v_a_{keys}_norm": float(sum(v_a.norm() for v_a, _ in pairs)),
        f"v_b_{keys}_norm": float(sum(v_b.norm() for _, v_b in pairs)),
        f"{keys}_delta_norm": float(added.norm()),
        f"{keys}_weight_change_ratio": float(added.norm() / (before + added).norm()),
    }


def injected(model, npt, layer, alpha, time, *, below):
    """One injection by the literal tool: the edited model, the entry that it writes, and ΔW of gate and up."""
    read, values, edits = attention(model, layer, below)[-1], {}, {}
    for target in ("gate", "up"):
        place = Place(layer, target)
        edits[place], more = sizes(model, npt, place, read, alpha)
        values |= more
    for place, added in edits.items():
        model = with_weight(model, place, added)
    return model, entry(layer_idx=layer, alpha=alpha, timestamp=time, **values), edits


def history(*entries):
    by_layer = {}
    for each in entries:
        by_layer.setdefault(str(each["layer_idx"]), []).append(each)
    return {"injected_facts": by_layer, "available_layers": [1, 3]}


def assert_edits(update, edits):
    for place, expected in edits.items():
        error = np.linalg.norm(dense(update, place) - expected.numpy()) / float(expected.norm())
        assert error < 1e-5, (place, error)


def test_a_later_layer_is_read_through_the_earlier_npt_layers_and_edits(tiny_llama, npt, tmp_path):
    """In the order of time, which is not that of the file: layer 3, layer 1, layer 3 again."""
    one = {1: npt.adapter(1)}
    model, first, edits_1 = injected(tiny_llama, npt, 3, 0.7, "2026-01-01T10:00:00", below=one)
    model, second, edits_2 = injected(model, npt, 1, 0.3, "2026-01-01T10:00:00.5", below={})
    _, third, edits_3 = injected(model, npt, 3, 1.1, "2026-01-01T10:01:00", below=one)
    found = replayed(tmp_path, history(second, first, third), tiny_llama, npt)
    assert found.notes == ()
    for update, edits in zip(found.updates, (edits_1, edits_2, edits_3), strict=True):
        assert_edits(update, edits)
    same_text = found.updates[0].factors[Place(3, "gate")].cosine(found.updates[2].factors[Place(3, "gate")])
    assert same_text < 0.999, "the edit of layer 1 is read by layer 3"


def test_a_record_that_fits_another_way_to_run_the_source_is_replayed_so(tiny_llama, npt, tmp_path):
    _, alone, edits = injected(tiny_llama, npt, 3, 0.7, "2026-01-01", below={})
    found = replayed(tmp_path, history(alone), tiny_llama, npt)
    (note,) = found.notes
    assert "fits a source that ran without RoPE with all layers below as in the base, not" in note
    assert_edits(found.updates[0], edits)


def test_a_strength_that_was_not_the_recorded_one_is_named(tiny_llama, npt, tmp_path):
    _, told, _ = injected(tiny_llama, npt, 1, 0.8, "2026-01-01", below={})
    notes = " ".join(replayed(tmp_path, history({**told, "alpha": 0.4}), tiny_llama, npt).notes)
    assert (
        "v_a and v_b are those of the record, so the strength differs: written was 2 times alpha 0.4" in notes
    )


def test_another_base_is_named(tiny_llama, npt, tmp_path):
    other = with_weight(tiny_llama, Place(1, "gate"), 0.5 * torch.ones(tiny_llama.d_ffn, tiny_llama.d_model))
    _, told, _ = injected(other, npt, 1, 0.01, "2026-01-01", below={})
    notes = replayed(tmp_path, history({**told, "v_a_gate_norm": 9.0}), tiny_llama, npt).notes
    assert any(
        "the gate weight itself was of size" in note and "another base model" in note for note in notes
    )


def test_a_change_of_the_recorded_size_in_another_direction_is_named(tiny_llama, npt, tmp_path):
    place = Place(1, "gate")
    _, told, edits = injected(tiny_llama, npt, 1, 0.8, "2026-01-01", below={})
    weight = tiny_llama.parts(1).gate.weight.double()
    size = edits[place].norm()
    turned = (weight + weight / weight.norm() * size).norm()
    told["gate_weight_change_ratio"] = float(size / turned)
    (note,) = replayed(tmp_path, history(told), tiny_llama, npt).notes
    assert (
        "ΔW of gate has the recorded size and another direction: its cosine with the weight was 1.000" in note
    )


@pytest.mark.parametrize("kept", [True, False])
def test_the_recorded_change_tells_whether_an_earlier_edit_was_kept(tiny_llama, npt, tmp_path, kept):
    model, first, _ = injected(tiny_llama, npt, 1, 0.9, "2026-01-01", below={})
    _, second, _ = injected(model if kept else tiny_llama, npt, 1, 0.5, "2026-01-02", below={})
    notes = replayed(tmp_path, history(first, second), tiny_llama, npt).notes
    assert notes == () if kept else "entry 2: its recorded weight change fits the weights without" in notes[0]
    assert len(notes) == (not kept)


def test_an_npt_layer_that_the_checkpoint_lacks_is_named(tiny_llama, npt, tmp_path):
    content = {**history(entry(layer_idx=3)), "available_layers": [0, 1, 3]}
    (note,) = replayed(tmp_path, content, tiny_llama, npt).notes
    assert note.startswith("the tool ran layers 0, 1, 3 as NPT layers and specimen has no 0")


def test_layers_that_the_tool_did_not_convert_run_as_in_the_base(tiny_llama, npt, tmp_path):
    content = {**history(entry(layer_idx=3, alpha=1.0)), "available_layers": [3]}
    (update,) = replayed(tmp_path, content, tiny_llama, npt).updates
    expected = rank_one_update(npt.adapter(3).modulations["up"], attention(tiny_llama, 3)[-1])
    assert_edits(update, {Place(3, "up"): expected})


@pytest.mark.parametrize(("position", "token"), [("last", -1), ("first", 0)])
def test_an_entry_is_the_tokens_weight_change_without_rope(tiny_llama, npt, tmp_path, position, token):
    content = {"injected_facts": {"1": [], "3": [entry(position=position, layer_idx=3)]}, "active_layer": 3}
    found = replayed(tmp_path, content, tiny_llama, npt)
    (update,) = found.updates
    for target in ("gate", "up"):
        expected = 1.5 * rank_one_update(
            npt.adapter(3).modulations[target], attention(tiny_llama, 3, {1: npt.adapter(1)})[token]
        )
        np.testing.assert_allclose(
            dense(update, Place(3, target)), expected, atol=1e-5 * float(expected.abs().max())
        )
    assert found.notes == () and update.origins[0].positions == "trained"
    assert update.origins[0].mode == "propagated"


def test_all_positions_are_the_mean_vectors_of_the_published_tool(tiny_llama, npt, tmp_path):
    (update,) = replayed(tmp_path, [entry(position="all", layer_idx=1)], tiny_llama, npt).updates
    weights, seen = npt.adapter(1).modulations["gate"], attention(tiny_llama, 1)
    expected = 0
    for j in range(weights.components):
        v_a, v_b = (
            torch.stack(each).mean(0) for each in zip(*(vectors(weights, a, j) for a in seen), strict=True)
        )
        expected = expected + 1.5 * torch.outer(v_b, v_a)
    np.testing.assert_allclose(
        dense(update, Place(1, "gate")), expected, atol=1e-5 * float(expected.abs().max())
    )


def test_a_recorded_size_that_is_not_reached_is_said(tiny_llama, npt, tmp_path):
    same = replayed(tmp_path, [entry(layer_idx=1)], tiny_llama, npt).updates[0].norms()
    gate, up = same[Place(1, "gate")], same[Place(1, "up")]
    close = entry(layer_idx=1, gate_delta_norm=1.0009 * gate, up_delta_norm=0.9992 * up)
    assert replayed(tmp_path, [close], tiny_llama, npt).notes == ()
    far = entry(layer_idx=1, gate_delta_norm=1.02 * gate, up_delta_norm=up)
    note, *_, cause = replayed(tmp_path, [far], tiny_llama, npt).notes
    assert note.startswith(
        f"entry 1: ‖ΔW‖ of gate was {1.02 * gate:.4g} and is {gate:.4g} when replayed without RoPE"
    )
    assert "no more figures to tell the cause" in cause


def test_what_cannot_be_replayed_is_said_and_the_rest_is(tiny_llama, npt, tmp_path):
    content = {
        "injected_facts": {
            "1": [entry(), entry(fact=""), entry(position="middle"), entry(alpha="strong")],
            "2": [entry()],
            "3": [entry(projections_modified=["gate"]), {"layer_idx": 3, "error": "out of memory"}, entry()],
        }
    }
    found = replayed(tmp_path, content, tiny_llama, npt)
    assert [update.layers for update in found.updates] == [(1,), (3,), (3,)]
    text = "\n".join(found.notes)
    for said in (
        "entry 2 cannot be replayed: it has no fact",
        "entry 3 cannot be replayed: position 'middle' is none of last, first, all",
        "entry 4 cannot be replayed: alpha is 'strong'",
        "entry 5 cannot be replayed: layer 2 is no NPT layer of specimen",
        "entry 6: it recorded an edit of gate, the checkpoint edits gate and up",
        "entry 7 cannot be replayed: it has no fact",
        "all are replayed: undo those that were replaced",
    ):
        assert said in text


def test_an_early_flat_list_has_no_layer(tiny_llama, npt, tmp_path):
    found = replayed(tmp_path, [entry()], tiny_llama, npt)
    assert found.updates == () and "does not say which layer" in found.notes[0]
    one = Checkpoint.from_adapters({3: npt.adapter(3)}, tiny_llama, "one")
    assert replayed(tmp_path, [entry()], tiny_llama, one).updates[0].layers == (3,)


def test_an_entry_without_strength_and_position_is_the_last_token_at_strength_one(tiny_llama, npt, tmp_path):
    short = {"fact": FACT, "layer_idx": 1, "projections_modified": ["gate", "up"]}
    (update,) = replayed(tmp_path, [short], tiny_llama, npt).updates
    expected = rank_one_update(npt.adapter(1).modulations["gate"], attention(tiny_llama, 1)[-1])
    np.testing.assert_allclose(
        dense(update, Place(1, "gate")), expected, atol=1e-5 * float(expected.abs().max())
    )


def test_layer_zero_is_a_layer(tiny_llama, npt, tmp_path):
    lowest = Checkpoint.from_adapters(
        {0: specimen(tiny_llama, "N4", 0), 3: npt.adapter(3)}, tiny_llama, "lowest"
    )
    found = replayed(tmp_path, [entry(layer_idx=0)], tiny_llama, lowest)
    assert [update.layers for update in found.updates] == [(0,)] and found.notes == ()


@pytest.mark.parametrize("recorded", [None, [], "gate"])
def test_an_entry_that_names_no_projection_edited_the_gate(tiny_llama, npt, tmp_path, recorded):
    (note,) = replayed(tmp_path, [entry(layer_idx=1, projections_modified=recorded)], tiny_llama, npt).notes
    assert note.startswith("entry 1: it recorded an edit of gate, the checkpoint edits gate and up")


def test_a_variant_that_no_published_tool_injects_is_said(tiny_llama, tmp_path):
    tanh = Checkpoint.from_adapters({1: specimen(tiny_llama, "T1", 1)}, tiny_llama, "tanh")
    found = replayed(tmp_path, [entry(layer_idx=1)], tiny_llama, tanh)
    assert found.updates == ()
    assert found.notes == ("entry 1 cannot be replayed: layer 1 of tanh is no sum of rank-1 updates",)


@pytest.mark.parametrize(
    "content", ["{", "3", "{}", '{"injected_facts": [1]}', '{"injected_facts": {"1": 2}}', "[7]"]
)
def test_a_file_that_is_no_history_is_a_sentence(tiny_llama, npt, tmp_path, content):
    with pytest.raises(
        NptVizError,
        match=r"injection_history\.json: (is no JSON|is no injection history|an entry is .* not an object)",
    ):
        replayed(tmp_path, content, tiny_llama, npt)


def test_a_history_that_is_not_there_is_a_sentence(tiny_llama, npt, tmp_path):
    with pytest.raises(NptVizError, match=r"no such file or folder; give an injection_history.json"):
        updates_from_history(tmp_path / "none.json", tiny_llama, npt)
    (tmp_path / "latin.json").write_bytes('"é"'.encode("latin-1"))
    with pytest.raises(NptVizError, match=r"latin.json cannot be read as UTF-8 .*; save it as UTF-8"):
        updates_from_history(tmp_path / "latin.json", tiny_llama, npt)

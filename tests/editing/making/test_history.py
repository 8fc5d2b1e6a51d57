"""Histories of published tools, in both layouts that were seen."""

import json

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import LiteralLlama, rank_one_update, vectors

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.making.history import updates_from_history
from npt_viz.editing.updates import Place
from npt_viz.errors import NptVizError
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


def attention(model, layer):
    """Without RoPE, as the published tool reads it."""
    return LiteralLlama(model).run(torch.tensor(encode(model, FACT).ids), rope=False)[0][layer].attention


def dense(update, place):
    parts = update.factors[place]
    return update.alpha * parts.v_b.astype(np.float64).T @ parts.v_a


@pytest.mark.parametrize(("position", "token"), [("last", -1), ("first", 0)])
def test_an_entry_is_the_tokens_weight_change_without_rope(tiny_llama, npt, tmp_path, position, token):
    content = {"injected_facts": {"1": [], "3": [entry(position=position, layer_idx=3)]}, "active_layer": 3}
    found = replayed(tmp_path, content, tiny_llama, npt)
    (update,) = found.updates
    for target in ("gate", "up"):
        expected = 1.5 * rank_one_update(npt.adapter(3).modulations[target], attention(tiny_llama, 3)[token])
        np.testing.assert_allclose(
            dense(update, Place(3, target)), expected, atol=1e-5 * float(expected.abs().max())
        )
    assert found.notes == () and update.origins[0].positions == "trained"


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
    close = entry(layer_idx=1, gate_delta_norm=1.03 * gate, up_delta_norm=0.98 * up)
    assert replayed(tmp_path, [close], tiny_llama, npt).notes == ()
    far = entry(layer_idx=1, gate_delta_norm=1.2 * gate, up_delta_norm=up)
    (note,) = replayed(tmp_path, [far], tiny_llama, npt).notes
    assert note.startswith(f"entry 1: ‖ΔW‖ of gate was {1.2 * gate:.4g} and is {gate:.4g}")


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
    with pytest.raises(NptVizError, match=r"does not exist; give an injection_history.json"):
        updates_from_history(tmp_path / "none.json", tiny_llama, npt)
    (tmp_path / "latin.json").write_bytes('"é"'.encode("latin-1"))
    with pytest.raises(NptVizError, match=r"latin.json cannot be read .*; give an injection_history.json"):
        updates_from_history(tmp_path / "latin.json", tiny_llama, npt)

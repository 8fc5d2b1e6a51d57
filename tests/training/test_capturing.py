"""Captured activations against the model's own hidden states, in memory, in a file, and on a changed stream."""

import errno
import os

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.capture.running import forward_pass
from npt_viz.errors import NptVizError
from npt_viz.training import capturing
from npt_viz.training.capturing import captured

LAYERS = (1, 3)


@pytest.fixture(scope="module")
def sequences():
    """Of lengths 13, 17, 13, 7, 17, 13: some share a length, the first is not the longest."""
    torch.manual_seed(5)
    return [torch.randint(2, 258, (n,)) for n in (13, 17, 13, 7, 17, 13)]


def hidden_states(model, ids):
    return model.hf(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states


def test_rows_are_the_models_own_hidden_states_in_the_order_of_the_text(tiny_llama, sequences):
    found = captured(tiny_llama, sequences, LAYERS, to_the_top=True)
    assert found.starts == (0, 13, 30, 43, 50, 67, 80)
    for i, ids in enumerate(sequences):
        span = slice(found.starts[i], found.starts[i + 1])
        states = hidden_states(tiny_llama, ids)
        for layer in LAYERS:
            tokens = found.layers[layer]
            torch.testing.assert_close(tokens.hidden[span], states[layer][0])
            after = tokens.hidden + tokens.attention + tokens.mlp_with_attention
            torch.testing.assert_close(after[span], states[layer + 1][0])
            parts = tiny_llama.parts(layer)
            torch.testing.assert_close(tokens.unmodulated[span], parts.mlp(parts.mlp_norm(states[layer][0])))
        torch.testing.assert_close(found.final[span], states[-1][0])


def test_layers_above_the_last_do_not_run_for_local_losses(sequences):
    model, ran = tiny_model(), []
    model.parts(4).layer.register_forward_hook(lambda *_: ran.append(4))
    model.unembedding.register_forward_hook(lambda *_: ran.append("unembedding"))
    captured(model, sequences, LAYERS)
    assert not ran


def test_rows_of_are_whole_sequences_in_the_asked_order(tiny_llama, sequences):
    found = captured(tiny_llama, sequences, [1])
    assert found.rows_of([3, 0]).tolist() == [*range(43, 50), *range(13)]


def test_a_changed_stream_is_captured_and_its_target_makes_it_the_bases_again(tiny_llama, sequences):
    below = {1: specimen(tiny_llama, "N1", 1)}
    base = captured(tiny_llama, sequences, [3])
    changed = captured(tiny_llama, sequences, [3], changed=below, base=base)
    tokens = changed.layers[3]
    ran = forward_pass(tiny_llama, sequences[0][None], [below], record=[3]).layers[3]
    torch.testing.assert_close(tokens.hidden[:13], ran.hidden[0])
    torch.testing.assert_close(tokens.attention[:13], ran.attention[0])
    assert not torch.allclose(tokens.hidden, base.layers[3].hidden, atol=0.1)
    restored = (tokens.hidden + tokens.attention + tokens.mlp_with_attention)[:13]
    torch.testing.assert_close(restored, hidden_states(tiny_llama, sequences[0])[4][0])


def test_beyond_the_budget_activations_go_to_a_file_and_stay_the_same(
    tiny_llama, sequences, tmp_path, monkeypatch
):
    monkeypatch.setattr(capturing.tempfile, "tempdir", str(tmp_path))
    needed = 80 * tiny_llama.d_model * 4 * 8
    inside = captured(tiny_llama, sequences, LAYERS, budget=needed)
    outside = captured(tiny_llama, sequences, LAYERS, budget=needed - 1)
    assert not inside.in_file and outside.in_file
    for layer in LAYERS:
        for name in ("hidden", "attention", "mlp_with_attention", "is_sink", "unmodulated"):
            assert torch.equal(getattr(inside.layers[layer], name), getattr(outside.layers[layer], name))
    assert list(tmp_path.iterdir()) == [], "the file has no name any more, so nothing is left behind"


@pytest.mark.parametrize("budget", [None, 1])
def test_what_gate_and_up_make_of_z_is_kept_up_to_a_size(tiny_llama, sequences, monkeypatch, budget):
    parts = tiny_llama.parts(LAYERS[0])
    settings = {"projections": True, "budget": budget}
    capture = captured(tiny_llama, sequences, LAYERS, **settings)
    assert capture.in_file == (budget == 1)
    kept = capture.layers[LAYERS[0]]
    mlp_input = parts.mlp_norm(kept.hidden)
    torch.testing.assert_close(kept.gate, mlp_input @ parts.gate.weight.T)
    torch.testing.assert_close(kept.up, mlp_input @ parts.up.weight.T)
    some = torch.tensor([5, 2, 71])
    assert torch.equal(kept.rows(some).gate, kept.gate[some])
    monkeypatch.setattr(capturing, "PROJECTIONS_BYTES", 80 * tiny_llama.d_ffn * 2 * 4 * len(LAYERS) - 1)
    assert captured(tiny_llama, sequences, LAYERS, **settings).layers[LAYERS[0]].gate is None
    assert captured(tiny_llama, sequences, LAYERS).layers[LAYERS[0]].gate is None, "not asked for"


def test_a_full_disk_is_one_sentence(tiny_llama, sequences, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(capturing.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(capturing.os, "posix_fallocate", full)
    with pytest.raises(
        NptVizError, match=r"captured activations need .* GB.*No space left on device.*TMPDIR"
    ):
        captured(tiny_llama, sequences, LAYERS, budget=0)
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_one_and_may_stop_the_capture(tiny_llama, sequences):
    told = []
    captured(tiny_llama, sequences, LAYERS, progress=lambda stage, fraction: told.append(fraction))
    assert told == sorted(told) and told[-1] == 1.0

    class Cancelled(Exception):
        pass

    def cancel(stage, fraction):
        raise Cancelled

    def hooks():
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny_llama.hf.modules()]

    before = hooks()
    with pytest.raises(Cancelled):
        captured(tiny_llama, sequences, LAYERS, progress=cancel, to_the_top=True)
    assert hooks() == before


def test_sinks_are_marked_within_their_sequence(sequences):
    model = tiny_model()
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[0] *= 500
    marked = [torch.cat([torch.tensor([0]), ids]) for ids in sequences]
    found = captured(model, marked, [0])
    assert found.layers[0].is_sink.nonzero()[:, 0].tolist() == list(found.starts[:-1])


def test_principal_directions_are_the_right_singular_vectors_of_the_uncentred_states(tiny_llama, sequences):
    tokens = captured(tiny_llama, sequences, [3]).layers[3]
    _, _, expected = np.linalg.svd(tokens.hidden.numpy() + 0.0)
    overlap = np.abs(expected[:10] @ tokens.principal.numpy())
    np.testing.assert_allclose(overlap, np.eye(10), atol=1e-3)

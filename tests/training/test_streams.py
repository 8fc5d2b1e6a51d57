"""What layers are trained on: the base's stream, a changed one, and the running NPT model's."""

import pytest
import torch
from conftest import specimen

from npt_viz.capture.running import forward_pass
from npt_viz.training.data import Corpus
from npt_viz.training.losses import TERMS
from npt_viz.training.streams import Batch, CapturedStream, PropagatedStream

LENGTHS = (13, 7, 13, 17)


@pytest.fixture(scope="module")
def corpus():
    torch.manual_seed(5)
    return Corpus(
        train=[torch.randint(2, 258, (n,)) for n in LENGTHS],
        heldout=[torch.randint(2, 258, (n,)) for n in (11, 11)],
    )


@pytest.fixture
def adapters(tiny_llama):
    found = {1: specimen(tiny_llama, "N5", 1), 3: specimen(tiny_llama, "N2", 3)}
    for adapter in found.values():
        adapter.requires_grad_(True)
    return found


SETTINGS = {"positions": "deployed", "to_the_top": True}
WHOLE = Batch(torch.cat([torch.arange(20, 33), torch.arange(13, 20)]), (13, 7))
"""Sequences 2 and 1 of the corpus."""


def test_on_the_base_stream_the_ending_is_the_model_with_this_one_npt_layer(tiny_llama, corpus, adapters):
    stream = CapturedStream(tiny_llama, corpus, (1, 3), **SETTINGS)
    for layer, seen in stream.students(adapters, WHOLE).items():
        for ids, span in ((corpus.train[2], slice(0, 13)), (corpus.train[1], slice(13, 20))):
            ran = forward_pass(tiny_llama, ids[None], [{layer: adapters[layer]}])
            torch.testing.assert_close(seen.ending.final[span], ran.final[0])
            torch.testing.assert_close(
                seen.ending.final_base[span], forward_pass(tiny_llama, ids[None]).final[0]
            )


def test_end_to_end_everything_is_the_running_npt_models(tiny_llama, corpus, adapters):
    stream = PropagatedStream(tiny_llama, corpus, (1, 3), **SETTINGS)
    seen = stream.students(adapters, WHOLE)
    # Sequences are ordered by their length: 7, then 13.
    for ids, span in ((corpus.train[1], slice(0, 7)), (corpus.train[2], slice(7, 20))):
        ran = forward_pass(tiny_llama, ids[None], [adapters], record=[1, 3])
        base = forward_pass(tiny_llama, ids[None], record=[1, 2, 3, 4])
        for layer in (1, 3):
            torch.testing.assert_close(seen[layer].hidden[span], ran.layers[layer].hidden[0])
            torch.testing.assert_close(seen[layer].attention[span], ran.layers[layer].attention[0])
            torch.testing.assert_close(seen[layer].output[span], ran.layers[layer].mlp_output[0])
            beside = 0 if adapters[layer].attention == "withheld" else seen[layer].attention[span]
            restored = seen[layer].hidden[span] + seen[layer].target[span] + beside
            torch.testing.assert_close(restored, base.layers[layer + 1].hidden[0])
        torch.testing.assert_close(seen[3].ending.final[span], ran.final[0])
        torch.testing.assert_close(seen[3].ending.final_base[span], base.final[0])


def test_end_to_end_a_local_loss_trains_its_layer_and_one_on_logits_trains_all(tiny_llama, corpus, adapters):
    stream = PropagatedStream(tiny_llama, corpus, (1, 3), **SETTINGS)
    seen = stream.students(adapters, WHOLE)
    first, second = (list(adapters[layer].parameters()) for layer in (1, 3))
    local = torch.autograd.grad(
        TERMS["direct"](seen[3]), first + second, allow_unused=True, retain_graph=True
    )
    assert all(g is None for g in local[: len(first)]) and all(g.abs().max() > 0 for g in local[len(first) :])
    overall = torch.autograd.grad(TERMS["kl"](seen[3]), first + second)
    assert all(g.abs().max() > 0 for g in overall)


def test_end_to_end_without_losses_on_logits_runs_nothing_above_the_last_npt_layer(
    tiny_llama, corpus, adapters
):
    stream = PropagatedStream(tiny_llama, corpus, (1, 3), positions="deployed", to_the_top=False)
    ran = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in tiny_llama.hf.named_modules()
        if name.endswith(("layers.3.mlp.down_proj", "layers.4", "lm_head", "layers.2"))
    ]
    seen = stream.students(adapters, WHOLE)
    for handle in handles:
        handle.remove()
    assert seen[3].ending is None and "model.layers.2" in ran
    assert not {"model.layers.4", "lm_head"} & set(ran)


def test_below_a_layer_the_trained_ones_run(tiny_llama, corpus, adapters):
    stream = CapturedStream(tiny_llama, corpus, (3,), below={1: adapters[1]}, **SETTINGS)
    seen = stream.students({3: adapters[3]}, WHOLE)[3]
    ran = forward_pass(tiny_llama, corpus.train[2][None], [adapters], record=[3])
    torch.testing.assert_close(seen.hidden[:13], ran.layers[3].hidden[0])
    torch.testing.assert_close(seen.ending.final[:13], ran.final[0])
    torch.testing.assert_close(
        seen.ending.final_base[:13], forward_pass(tiny_llama, corpus.train[2][None]).final[0]
    )


@pytest.mark.parametrize("kind", [CapturedStream, PropagatedStream])
def test_evaluation_sees_every_heldout_token_of_every_layer(kind, tiny_llama, corpus, adapters):
    stream = kind(tiny_llama, corpus, (1, 3), **SETTINGS)
    seen = {1: 0, 3: 0}
    for layer, batch, is_sink in stream.heldout_students(adapters):
        assert len(batch.output) == len(is_sink)
        seen[layer] += len(is_sink)
    assert seen == {1: 22, 3: 22}

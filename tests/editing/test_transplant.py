"""Transplanted weight changes, against a Llama written out token by token with the ΔW of that token exchanged."""

from inspect import unwrap

import numpy as np
import pytest
import torch
from conftest import specimen
from literal import Exchanged, LiteralLlama

from npt_viz.adapter import VARIANTS
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.transplant import OPERATIONS, transplant
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import encode

DONOR, PROMPT = "the sky was green", "a cat sat here"


def checkpoint(model, variant, layers=(1, 3)):
    adapters = {layer: specimen(model, variant, layer, seed=layer) for layer in layers}
    return Checkpoint.from_adapters(adapters, model, "specimen")


def log_p(logits):
    return logits.double().log_softmax(-1).numpy()


def expected(model, npt, variant, donor_token, token, own, given, layers=(1, 3)):
    donor_ids, ids = (torch.tensor(encode(model, text).ids) for text in (DONOR, PROMPT))
    seen, _, _ = LiteralLlama(model).run(donor_ids)
    donors = {layer: seen[layer].attention[donor_token] for layer in layers}
    lane = {layer: (variant, npt.adapter(layer)) for layer in (1, 3)}
    changed = Exchanged(model, variant, donors, token, own, given)
    if layers != (1, 3):
        changed.own, one = 1.0, layers[0]
        plain = LiteralLlama(model)
        changed_layer = changed.layer

        def layer(i, *args, **kwargs):
            changed.own = own
            return changed_layer(i, *args, **kwargs) if i == one else plain.layer(i, *args, **kwargs)

        changed.layer = layer
    return changed.run(ids, lane)[2]


def test_one_token_of_a_pooled_layer_has_no_weight_change_of_its_own(tiny_llama):
    with pytest.raises(NptVizError, match="exchanges the weight change of a single token"):
        transplant(tiny_llama, checkpoint(tiny_llama, "S0-pooled"), DONOR, PROMPT, layers=1)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"S0-pooled"}))
@pytest.mark.parametrize(
    ("operation", "strength", "own", "given"),
    [("replace", 1.0, 0, 1), ("blend", 0.3, 0.7, 0.3), ("add", 0.5, 1, 0.5), ("scale", -2.0, -2, 0)],
)
def test_every_operation_acts_on_the_weight_changes(tiny_llama, variant, operation, strength, own, given):
    npt = checkpoint(tiny_llama, variant)
    found = transplant(
        tiny_llama,
        npt,
        DONOR,
        PROMPT,
        layers=(1, 3),
        donor_token=7,
        token=5,
        operation=operation,
        strength=strength,
    )
    logits = expected(tiny_llama, npt, variant, 7, 5, own, given)
    np.testing.assert_allclose(found.transplanted.logits, logits[-1], atol=1e-4)
    npt_logits = LiteralLlama(tiny_llama).run(
        torch.tensor(encode(tiny_llama, PROMPT).ids),
        {layer: (variant, npt.adapter(layer)) for layer in (1, 3)},
    )[2]
    np.testing.assert_allclose(found.npt.logits, npt_logits[-1], atol=1e-4)
    reference = log_p(npt_logits)
    kl = (np.exp(reference) * (reference - log_p(logits))).sum(-1)
    np.testing.assert_allclose(found.transplanted.kl, kl, atol=1e-5)
    assert found.transplanted.kl[:5].max() < 1e-7 < found.transplanted.kl[5]


def test_a_tokens_own_weight_change_put_back_changes_nothing(tiny_llama):
    npt = checkpoint(tiny_llama, "N5", (1,))
    found = transplant(tiny_llama, npt, PROMPT, PROMPT, layers=1, donor_token=4, token=4)
    np.testing.assert_allclose(found.transplanted.logits, found.npt.logits, atol=1e-5)
    assert (
        transplant(tiny_llama, npt, DONOR, PROMPT, layers=1, operation="scale").transplanted.kl.max() < 1e-9
    )


def test_the_shares_of_the_layers_are_those_of_each_layer_alone(tiny_llama):
    npt = checkpoint(tiny_llama, "N4")
    found = transplant(tiny_llama, npt, DONOR, PROMPT, layers=(1, 3), donor_token=7, token=5)
    reference = log_p(
        LiteralLlama(tiny_llama).run(
            torch.tensor(encode(tiny_llama, PROMPT).ids),
            {layer: ("N4", npt.adapter(layer)) for layer in (1, 3)},
        )[2]
    )
    for share, layer in zip(found.shares, (1, 3), strict=True):
        other = log_p(expected(tiny_llama, npt, "N4", 7, 5, 0, 1, (layer,)))
        kl = (np.exp(reference) * (reference - other)).sum(-1)
        assert share.layer == layer
        assert share.kl_at_token == pytest.approx(kl[5], abs=1e-5)
        assert share.kl_at_end == pytest.approx(kl[-1], abs=1e-5)


def test_base_and_donor_are_shown_beside_it(tiny_llama):
    npt = checkpoint(tiny_llama, "N4")
    found = transplant(tiny_llama, npt, DONOR, PROMPT, layers=(1, 3), donor_token=6, token=2)
    base = tiny_llama.hf(torch.tensor([encode(tiny_llama, PROMPT).ids])).logits[0, -1]
    np.testing.assert_allclose(found.base.logits, base, atol=1e-4)
    ids = torch.tensor(encode(tiny_llama, DONOR).ids)
    at_home = log_p(LiteralLlama(tiny_llama).run(ids, {i: ("N4", npt.adapter(i)) for i in (1, 3)})[2])[6]
    assert [row[1] for row in found.donor_top] == list(np.argsort(-at_home)[:10])
    donor_glyph = found.donor_pieces[6].glyph
    assert found.sentence == f"replace (1) ΔW of {donor_glyph} #6 at c #2, layers 1, 3"


def test_the_propagated_donor_runs_through_the_npt_model(tiny_llama):
    npt = checkpoint(tiny_llama, "N4")
    local, running = (
        transplant(tiny_llama, npt, DONOR, PROMPT, layers=(1, 3), mode=mode)
        for mode in ("local", "propagated")
    )
    only_first = [
        transplant(tiny_llama, npt, DONOR, PROMPT, layers=1, mode=mode) for mode in ("local", "propagated")
    ]
    assert np.abs(local.transplanted.logits - running.transplanted.logits).max() > 1e-3
    # The lowest NPT layer sees the same in both.
    np.testing.assert_allclose(
        only_first[0].transplanted.logits, only_first[1].transplanted.logits, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 2}, "layer 2 is no NPT layer"),
        ({"token": 14}, "token 14 does not exist: the prompt text has 14 tokens"),
        ({"donor_token": 17}, "token 17 does not exist: the donor text has 17 tokens"),
        ({"operation": "swap"}, f"choose one of {', '.join(OPERATIONS)}"),
        ({"strength": float("inf")}, "give a finite number"),
        ({"mode": "propagate"}, "mode 'propagate' does not exist; choose local or propagated"),
        ({"positions": "trained_"}, "positions 'trained_' do not exist; choose deployed or trained"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(tiny_llama, arguments, message):
    npt = checkpoint(tiny_llama, "N1", (1,))
    with pytest.raises(NptVizError, match=message):
        # Unwrapped: the annotations, which the tests check, would refuse a mode first.
        unwrap(transplant)(tiny_llama, npt, DONOR, PROMPT, **({"layers": 1} | arguments))

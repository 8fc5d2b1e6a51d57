"""The pinned token's card against explicit vectors and finite differences."""

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model
from streams import PROMPT, attention_of, ids_of, live, streams

from npt_viz.capture.inspection import inspect
from npt_viz.capture.running import forward_pass
from npt_viz.capture.token_card import logit_change, strongest, token_card
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import display_token

TOKEN = 5


def test_the_units_moved_most_are_those_of_the_dense_update(tiny_llama):
    adapter = specimen(tiny_llama, "N1", layer=2)
    checkpoint = live(adapter)
    card = token_card(tiny_llama, checkpoint, inspect(tiny_llama, checkpoint, PROMPT), 2, TOKEN, top=4)
    h = streams(tiny_llama, ids_of(tiny_llama))[2][0, TOKEN]
    a = attention_of(tiny_llama, 2, streams(tiny_llama, ids_of(tiny_llama))[2])[0, TOKEN]
    z = tiny_llama.parts(2).mlp_norm(h)
    gate = adapter.modulations["gate"]
    update = torch.einsum("ko,ki->oi", gate.v_b(a), gate.v_a(a))
    moved = (update @ z).abs().topk(4)
    assert [unit.index for unit in card.units] == moved.indices.tolist()
    np.testing.assert_allclose([abs(u.change) for u in card.units], moved.values.numpy(), rtol=1e-3)
    before = tiny_llama.parts(2).gate(z)[moved.indices]
    np.testing.assert_allclose([u.before for u in card.units], before.numpy(), rtol=1e-3, atol=1e-5)
    delta = update @ z
    shared = delta.square().sum() ** 2 / delta.pow(4).sum()
    assert card.effective_units == pytest.approx(shared.item(), rel=1e-3)


def test_logit_changes_are_the_hand_derivative_of_rms_norm_and_unembedding(tiny_llama):
    x = forward_pass(tiny_llama, ids_of(tiny_llama)).stream[0, -1].double()
    d = torch.randn(tiny_llama.d_model, dtype=torch.float64)
    norm = tiny_llama.backbone.norm
    rms = (x.square().mean() + norm.variance_epsilon).sqrt()
    along = norm.weight.double() * (d / rms - x * (x @ d) / (len(x) * rms**3))
    expected = tiny_llama.hf.lm_head.weight.double() @ along
    torch.testing.assert_close(
        logit_change(tiny_llama, d.float(), x.float()), expected.float(), rtol=1e-4, atol=1e-5
    )


def test_promoted_tokens_are_those_whose_logit_really_rises(tiny_llama):
    checkpoint = live(specimen(tiny_llama, "N4", layer=4))
    run = inspect(tiny_llama, checkpoint, PROMPT)
    card = token_card(tiny_llama, checkpoint, run, 4, TOKEN, top=258)
    seen = forward_pass(tiny_llama, ids_of(tiny_llama), [{}], record=[4])
    record, parts = seen.layers[4], tiny_llama.parts(4)
    z, a = parts.mlp_norm(record.hidden[0, TOKEN]), record.attention[0, TOKEN]
    adapter = checkpoint.adapter(4)
    added = adapter.mlp(parts.mlp, a, z).output - parts.mlp(z)
    stream, tiny = seen.stream[0, TOKEN].double(), 1e-4
    head, norm = tiny_llama.hf.lm_head, tiny_llama.backbone.norm
    with torch.no_grad():
        rise = (head(norm((stream + tiny * added).float())) - head(norm(stream.float()))) / tiny
    order = [entry.id for entry in card.promoted]
    np.testing.assert_allclose([e.change for e in card.promoted], rise[order].numpy(), atol=0.2)
    assert card.promoted[0].change == max(e.change for e in card.suppressed)


def test_the_last_token_and_the_token_from_the_end_are_one(tiny_llama):
    checkpoint = live(specimen(tiny_llama, "N1"))
    run = inspect(tiny_llama, checkpoint, PROMPT, mode="propagated")
    last = token_card(tiny_llama, checkpoint, run, 2, len(run.tokens) - 1)
    assert token_card(tiny_llama, checkpoint, run, 2, -1).units == last.units


@pytest.mark.parametrize(
    ("layer", "token", "words"), [(3, 0, "layer 3"), (2, 99, "token 99"), (2, -99, "-99")]
)
def test_a_layer_or_token_that_is_not_there_is_one_sentence(tiny_llama, layer, token, words):
    checkpoint = live(specimen(tiny_llama, "N1"))
    run = inspect(tiny_llama, checkpoint, PROMPT)
    with pytest.raises(NptVizError, match=words):
        token_card(tiny_llama, checkpoint, run, layer, token)


def test_strongest_tokens_are_the_extremes_with_their_glyphs(tiny_llama):
    logits = torch.linspace(-3, 5, 258)[torch.randperm(258)]
    promoted = strongest(tiny_llama, logits, 4, largest=True)
    suppressed = strongest(tiny_llama, logits, 4, largest=False)
    order = logits.argsort().tolist()
    assert [each.id for each in suppressed] == order[:4] and [each.id for each in promoted] == order[:-5:-1]
    for each in (*promoted, *suppressed):
        assert each.glyph == display_token(tiny_llama.tokenizer, each.id).glyph
        assert each.change == logits[each.id].item()


def test_a_bias_of_the_unembedding_is_no_change():
    model = tiny_model()
    stream, added = torch.randn(24), torch.randn(24)
    plain = logit_change(model, added, stream)
    head = torch.nn.Linear(24, 258)
    head.weight = model.hf.lm_head.weight
    model.hf.lm_head = head
    torch.testing.assert_close(logit_change(model, added, stream), plain, rtol=1e-4, atol=1e-5)

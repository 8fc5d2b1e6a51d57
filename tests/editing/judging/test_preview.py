"""Previews against copies of the Hugging Face model with really edited weights."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from conftest import specimen, tiny_model

from npt_viz.adapter import VARIANTS
from npt_viz.capture.running import changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.judging.preview import continuations, preview_update
from npt_viz.editing.ledger import Ledger
from npt_viz.editing.making.from_source import update_from
from npt_viz.editing.making.rules import RULES, UpdateRule
from npt_viz.editing.realised import edit_report
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.results.editing import rank_changes

SOURCE = "In the story the cat is blue. The cat is"
PROMPT = "The cat is"
TEXTS = ("A quiet morning by the river.", "Two plus three is five; six is more.")


def checkpoint(model, variant, layers=(1, 3)):
    adapters = {layer: specimen(model, variant, layer, seed=layer) for layer in layers}
    return Checkpoint.from_adapters(adapters, model, "specimen")


def really_edited(model: BaseModel, updates) -> torch.nn.Module:
    """A copy of the Hugging Face model with every ΔW written out as a matrix and added to its weight."""
    copy = deepcopy(model.hf)
    parameters = dict(copy.named_parameters())
    for update in updates:
        for place, parts in update.factors.items():
            for v_a, v_b in zip(parts.v_a, parts.v_b, strict=True):
                parameters[place.parameter] += update.alpha * torch.outer(
                    torch.from_numpy(v_b), torch.from_numpy(v_a)
                )
    return copy


def tokens(model, text):
    return torch.tensor([encode(model, text).ids])


def log_p(logits):
    return logits.double().log_softmax(-1).numpy()


def kl(reference, other):
    return (np.exp(reference) * (reference - other)).sum(-1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layers", [(2,), (1, 3)])
def test_a_preview_is_the_model_with_really_edited_weights(tiny_llama, variant, layers):
    npt = checkpoint(tiny_llama, variant, layers)
    found = preview_update(tiny_llama, npt, SOURCE, layers, alpha=0.8, prompt=PROMPT)
    ids = tokens(tiny_llama, PROMPT)
    base = tiny_llama.hf(ids).logits[0]
    edited = really_edited(tiny_llama, [found.update])(ids).logits[0]
    np.testing.assert_allclose(found.before.logits, base[-1], atol=1e-4)
    np.testing.assert_allclose(found.after.logits, edited[-1], atol=1e-4)
    assert (edited - base).abs().max() > 1e-3
    np.testing.assert_allclose(found.after.kl, kl(log_p(base), log_p(edited)), atol=1e-5)
    np.testing.assert_allclose(found.after.nll[:-1], -log_p(edited)[range(9), ids[0, 1:]], atol=1e-4)
    p = log_p(edited)[-1]
    assert [row[1] for row in found.after.next_tokens] == list(np.argsort(-p)[:10])
    np.testing.assert_allclose(
        [row[2] for row in found.after.next_tokens], np.exp(np.sort(p)[::-1][:10]), atol=1e-5
    )


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_previews_what_its_weights_do(tiny_llama, rule):
    npt = checkpoint(tiny_llama, "N5")
    settings = UpdateRule(name=rule, reference=TEXTS)
    found = preview_update(tiny_llama, npt, SOURCE, [1, 3], alpha=-1.5, prompt=PROMPT, rule=settings)
    edited = really_edited(tiny_llama, [found.update])(tokens(tiny_llama, PROMPT)).logits[0, -1]
    np.testing.assert_allclose(found.after.logits, edited, atol=1e-4)


@pytest.mark.parametrize("variant", ["N1", "N3", "S1-early", "S0", "T1"])
def test_npt_on_after_the_edit_is_npt_on_edited_weights(tiny_llama, variant):
    npt = checkpoint(tiny_llama, variant)
    found = preview_update(tiny_llama, npt, SOURCE, [1, 3], prompt=PROMPT)
    copy = BaseModel(really_edited(tiny_llama, [found.update]), tiny_llama.tokenizer, "edited", "copy")
    adapters = {layer: npt.adapter(layer) for layer in (1, 3)}
    for outcome, model in ((found.npt_before, tiny_llama), (found.npt_after, copy)):
        with changed(model, [adapters]):
            expected = model.hf(tokens(tiny_llama, PROMPT)).logits[0, -1]
        np.testing.assert_allclose(outcome.logits, expected, atol=1e-4)
    assert np.abs(found.npt_after.logits - found.npt_before.logits).max() > 1e-2


def test_earlier_edits_are_on_both_sides(tiny_llama):
    npt, ledger = checkpoint(tiny_llama, "N4"), Ledger(tiny_llama)
    first = preview_update(tiny_llama, npt, "one thing", 1, alpha=0.7)
    second = preview_update(tiny_llama, npt, "another thing", 3, token=2, alpha=-0.4)
    first.apply_to(ledger)
    second.apply_to(ledger)
    found = preview_update(tiny_llama, npt, SOURCE, [1, 3], prompt=PROMPT, ledger=ledger)
    ids = tokens(tiny_llama, PROMPT)
    before = really_edited(tiny_llama, [first.update, second.update])(ids).logits[0]
    after = really_edited(tiny_llama, [first.update, second.update, found.update])(ids).logits[0]
    np.testing.assert_allclose(found.before.logits, before[-1], atol=1e-4)
    np.testing.assert_allclose(found.after.logits, after[-1], atol=1e-4)
    np.testing.assert_allclose(found.after.kl, kl(log_p(before), log_p(after)), atol=1e-5)


def test_recovery_compares_with_the_prompt_in_its_context(tiny_llama):
    found = preview_update(tiny_llama, checkpoint(tiny_llama, "N4"), SOURCE, [1, 3], prompt=PROMPT)
    told = log_p(tiny_llama.hf(tokens(tiny_llama, SOURCE)).logits[0, -1])
    plain, updated = log_p(torch.from_numpy(found.before.logits)), log_p(torch.from_numpy(found.after.logits))
    assert found.recovery.with_context == SOURCE
    assert found.recovery.kl_plain == pytest.approx(kl(told, plain), abs=1e-5)
    assert found.recovery.kl_updated == pytest.approx(kl(told, updated), abs=1e-5)
    assert found.recovery.recovered == pytest.approx(1 - kl(told, updated) / kl(told, plain), abs=1e-3)
    assert [row[1] for row in found.recovery.top] == list(np.argsort(-told)[:10])


def test_a_context_without_the_prompt_is_put_in_front_of_it(tiny_llama):
    npt = checkpoint(tiny_llama, "N1")
    found = preview_update(tiny_llama, npt, "The sky is green.", 1, prompt="The sky is")
    assert found.recovery.with_context == "The sky is green. The sky is"
    assert preview_update(tiny_llama, npt, PROMPT, 1).recovery is None


def test_rank_changes_name_every_candidate_of_either_side(tiny_llama):
    found = preview_update(tiny_llama, checkpoint(tiny_llama, "N5"), SOURCE, [1, 3], prompt=PROMPT, top_k=4)
    rows = found.next_tokens
    p_before, p_after = (np.exp(log_p(torch.from_numpy(s.logits))) for s in (found.before, found.after))
    assert {row.id for row in rows} == set(np.argsort(-p_before)[:4]) | set(np.argsort(-p_after)[:4])
    for row in rows:
        assert row.rank_before == 1 + (p_before > p_before[row.id]).sum()
        assert row.rank_after == 1 + (p_after > p_after[row.id]).sum()
        assert row.probability_after == pytest.approx(p_after[row.id], abs=1e-6)
    assert [row.rank_after for row in rows] == sorted(row.rank_after for row in rows)
    worst = int(np.argmin(p_after))
    listed = rank_changes(found.before, found.after, {worst: "!"})
    assert listed[:-1] == rows and (listed[-1].glyph, listed[-1].rank_after) == ("!", len(p_after))


def hooks_of(model) -> list[int]:
    """How many hooks every module has; transformers leaves some of its own after output_hidden_states."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules()]


def test_the_base_keeps_its_bits_and_no_hook(tiny_llama):
    before = {name: tensor.clone() for name, tensor in tiny_llama.hf.state_dict().items()}
    hooks = hooks_of(tiny_llama)
    preview_update(tiny_llama, checkpoint(tiny_llama, "N5"), SOURCE, [1, 3], prompt=PROMPT)
    for name, tensor in tiny_llama.hf.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert hooks_of(tiny_llama) == hooks


def test_continuations_are_those_of_the_edited_model(tiny_llama):
    update = update_from(tiny_llama, checkpoint(tiny_llama, "N5"), SOURCE, layer=[1, 3], alpha=2.0)
    found = continuations(tiny_llama, [], [update], PROMPT, tokens=7, seed=3)
    ids = tokens(tiny_llama, PROMPT)
    models = {"before": tiny_llama.hf, "after": really_edited(tiny_llama, [update])}
    for written in found:
        if written.style == "greedy":
            output = models[written.name].generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False, pad_token_id=1
            )
            assert list(written.token_ids) == output[0, ids.shape[1] :].tolist()
    assert len({written.token_ids for written in found}) == 4


def test_the_same_seed_draws_the_same_text_and_follows_the_distribution(tiny_llama):
    first, again = (continuations(tiny_llama, [], [], PROMPT, tokens=5, seed=8) for _ in range(2))
    assert first == again
    assert first[1].token_ids == first[3].token_ids  # The same model on both sides.
    p = tiny_llama.hf(tokens(tiny_llama, PROMPT)).logits[0, -1].div(0.8).softmax(-1)
    uniform = torch.rand(5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)[0]
    drawn = first[1].token_ids[0]
    assert p[:drawn].sum() <= uniform + 1e-5 and uniform <= p[: drawn + 1].sum() + 1e-5


def test_a_bf16_model_previews_what_float_weights_would_do():
    half = tiny_model(dtype=torch.bfloat16)
    found = preview_update(half, checkpoint(half, "N5"), SOURCE, [1, 3], prompt=PROMPT)
    exact = really_edited(BaseModel(deepcopy(half.hf).float(), None, "", ""), [found.update])
    expected = exact(tokens(half, PROMPT)).logits[0, -1]
    assert np.linalg.norm(found.after.logits - expected.numpy()) < 0.06 * float(expected.norm())


def test_an_edited_lane_adds_to_the_projections_only(tiny_llama):
    lane = edited_lane(
        tiny_llama, [update_from(tiny_llama, checkpoint(tiny_llama, "N4"), SOURCE, layer=[1, 3])]
    )
    assert {layer: (change.attention, change.targets) for layer, change in lane.items()} == {
        1: ("standard", ("gate", "up")),
        3: ("standard", ("gate", "up")),
    }


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_an_offloaded_model_previews_the_same_numbers(tiny_llama, tmp_path, where):
    moved = tiny_model()
    if where == "cpu":
        cpu_offload(moved.hf, torch.device("cpu"))
    else:
        disk_offload(moved.hf, tmp_path, torch.device("cpu"))
    for rule in ("npt", "exact", "whitened"):
        settings = UpdateRule(name=rule, reference=TEXTS)
        expected = preview_update(
            tiny_llama, checkpoint(tiny_llama, "N5"), SOURCE, [1, 3], prompt=PROMPT, rule=settings
        )
        found = preview_update(moved, checkpoint(moved, "N5"), SOURCE, [1, 3], prompt=PROMPT, rule=settings)
        np.testing.assert_allclose(found.after.logits, expected.after.logits, atol=1e-5)
    report, plain = (edit_report(model, [found.update]) for model in (moved, tiny_llama))
    assert report.edits == plain.edits

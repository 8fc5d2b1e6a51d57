"""Greedy continuations against picking the most probable token again and again without a cache."""

import pytest
import torch
from conftest import specimen

from npt_viz.analysis.continuation import continuations, greedy_continuation
from npt_viz.capture.running import NoAttention, changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import display_token
from npt_viz.question import Question

PROMPT = [0, 72, 103, 31, 31, 200, 5]


def uncached(model, lane, n_tokens, positions="deployed"):
    ids = list(PROMPT)
    with changed(model, [lane], positions=positions), torch.no_grad():
        for _ in range(n_tokens):
            ids.append(int(model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == model.tokenizer.eos_token_id:
                break
    return ids[len(PROMPT) :]


@pytest.mark.parametrize("positions", ["deployed", "trained"])
def test_each_continuation_is_its_own_models_greedy_choice(tiny_llama, positions):
    adapter = specimen(tiny_llama, "N4")
    checkpoint = Checkpoint.from_adapters({2: adapter}, tiny_llama, "specimen")
    found = continuations(tiny_llama, checkpoint, Question(prompt=PROMPT, positions=positions), n_tokens=11)
    for glyphs, lane in ((found.base, {}), (found.npt, {2: adapter}), (found.off, {2: NoAttention()})):
        ids = uncached(tiny_llama, lane, 11, positions)
        assert greedy_continuation(tiny_llama, lane, PROMPT, 11, positions) == ids
        assert glyphs == tuple(display_token(tiny_llama.tokenizer, i).glyph for i in ids)
    assert found.npt != found.base


def test_what_does_not_fit_the_context_is_refused(tiny_llama):
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, "N1")}, tiny_llama, "specimen")
    with pytest.raises(NptVizError, match="7 tokens of prompt and 91 more do not fit tiny's context of 97"):
        continuations(tiny_llama, checkpoint, PROMPT, n_tokens=91)

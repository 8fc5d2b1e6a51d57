"""BaseModel.decode against whole passes without a cache, under both names of the cache argument."""

from types import SimpleNamespace

import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.capture.running import changed
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel, greedy

PROMPTS = torch.tensor([[0, 72, 103, 31, 9], [0, 5, 200, 17, 44]])


def uncached(model, ids, n_tokens):
    with torch.no_grad():
        for _ in range(n_tokens):
            last = model.hf(ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, last.argmax(-1, keepdim=True)], dim=1)
    return ids[:, PROMPTS.shape[1] :]


def test_greedy_is_the_choice_of_whole_passes(tiny_llama):
    new = tiny_llama.decode(PROMPTS, 13, greedy)
    assert torch.equal(new, uncached(tiny_llama, PROMPTS, 13))
    assert len({tuple(row) for row in new.tolist()}) == 2


def test_rows_follow_their_lanes(tiny_llama):
    lanes = [{}, {2: specimen(tiny_llama, "N4")}]
    with changed(tiny_llama, lanes):
        new = tiny_llama.decode(PROMPTS[:1].expand(2, -1), 11, greedy)
    for row, lane in zip(new, lanes, strict=True):
        with changed(tiny_llama, [lane]):
            assert torch.equal(row[None], uncached(tiny_llama, PROMPTS[:1], 11))
    assert not torch.equal(*new)


def test_a_chooser_sees_the_float32_logits_of_the_last_token(tiny_llama):
    seen = []

    def second_best(logits):
        seen.append(logits)
        return logits.topk(2).indices[:, 1]

    new = tiny_llama.decode(PROMPTS, 3, second_best)
    with torch.no_grad():
        whole = tiny_llama.hf(torch.cat([PROMPTS, new], dim=1), use_cache=False).logits
    torch.testing.assert_close(torch.stack(seen, dim=1), whole[:, 4:7])
    assert torch.equal(new, whole[:, 4:7].topk(2).indices[..., 1])


def test_it_stops_when_every_row_has_ended_and_only_where_asked():
    model = tiny_model()
    model.hf.generation_config.eos_token_id = [1, 7]
    script = torch.tensor([[5, 6], [7, 6], [9, 1], [3, 3]])

    def scripted():
        steps = iter(script)
        return lambda logits: next(steps)

    assert model.decode(PROMPTS, 4, scripted(), stop_at_end=True).tolist() == [[5, 7, 9], [6, 6, 1]]
    assert model.decode(PROMPTS, 4, scripted()).shape == (2, 4)
    assert model.decode(PROMPTS, 0, greedy).shape == (2, 0)


class Counting(torch.nn.Module):
    """Continues n with n + 1, but only from what its cache has kept; the cache goes by one of two names."""

    generation_config = SimpleNamespace(eos_token_id=None)

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(97, 3)

    def get_input_embeddings(self):
        return self.embedding

    def _next(self, input_ids, cache):
        kept = [*(cache or []), *input_ids[0].tolist()]
        logits = torch.zeros(1, 1, 97)
        logits[0, 0, len(kept)] = 1.0  # The length of everything read: wrong where the cache is lost.
        return kept, logits


class New(Counting):
    def forward(self, input_ids, cache=None, **kwargs):
        kept, logits = self._next(input_ids, cache)
        return SimpleNamespace(logits=logits, cache=kept)


class Old(Counting):
    def forward(self, input_ids, past_key_values=None, **kwargs):
        kept, logits = self._next(input_ids, past_key_values)
        return SimpleNamespace(logits=logits, past_key_values=kept)


class Unknown(Counting):
    def forward(self, input_ids, state=None, **kwargs):
        raise AssertionError("refused before it runs")


@pytest.mark.parametrize("kind", [New, Old])
def test_the_cache_goes_by_the_name_that_forward_has(kind):
    model = BaseModel(hf=kind(), tokenizer=None, name="counting", source="made in memory")
    assert model.decode(PROMPTS[:1], 4, greedy).tolist() == [[5, 6, 7, 8]]


def test_a_cache_of_an_unknown_name_is_a_sentence():
    model = BaseModel(hf=Unknown(), tokenizer=None, name="counting", source="made in memory")
    with pytest.raises(NptVizError, match="no key-value cache under a name that npt_viz knows"):
        model.decode(PROMPTS[:1], 4, greedy)

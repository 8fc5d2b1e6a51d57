"""What an inspection keeps answers later questions as a new run would, and its progress can end it."""

import numpy as np
import pytest
import torch
from conftest import specimen

from npt_viz.analysis.direction_vocabulary import direction_vocabulary
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_view import layer_views
from npt_viz.capture.running import Pass, forward_pass
from npt_viz.capture.token_card import token_card
from npt_viz.checkpoint import Checkpoint
from npt_viz.question import Question

IDS = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]
TOKEN = 7


@pytest.fixture(scope="module")
def checkpoint(tiny_llama):
    adapters = {1: specimen(tiny_llama, "N4", 1, seed=1), 3: specimen(tiny_llama, "N5", 3, seed=3)}
    return Checkpoint.from_adapters(adapters, tiny_llama, "specimen")


@pytest.fixture(params=["local", "propagated"])
def kept(request, tiny_llama, checkpoint) -> tuple:
    """(an inspection, its pass)"""
    passes: list[Pass] = []
    run = inspect(tiny_llama, checkpoint, IDS, mode=request.param, keep=passes.append)
    return run, passes[0]


def runs_again(monkeypatch, *modules) -> None:
    def run(*args, **kwargs):
        raise AssertionError("the prompt was run again")

    for module in modules:
        monkeypatch.setattr(f"npt_viz.{module}.forward_pass", run)


def test_a_card_from_what_was_kept_is_the_card_of_a_new_run(tiny_llama, checkpoint, kept, monkeypatch):
    run, seen = kept
    anew = token_card(tiny_llama, checkpoint, run, 3, TOKEN)
    runs_again(monkeypatch, "capture.token_card")
    card = token_card(tiny_llama, checkpoint, run, 3, TOKEN, kept_pass=seen)
    assert [unit.index for unit in card.units] == [unit.index for unit in anew.units]
    for side in ("promoted", "suppressed"):
        found, expected = ([each.change for each in getattr(of, side)] for of in (card, anew))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert card.output_change_norm == pytest.approx(anew.output_change_norm, rel=1e-5)


def test_a_layer_from_what_was_kept_is_the_layer_of_a_new_run(tiny_llama, checkpoint, kept, monkeypatch):
    run, seen = kept
    anew = layer_views(tiny_llama, checkpoint, run)
    words = direction_vocabulary(tiny_llama, checkpoint, run, 3, TOKEN, direction="mean")
    fits = reconstruction(tiny_llama, checkpoint, Question(prompt=IDS))
    runs_again(monkeypatch, "capture.layer_trace", "analysis.direction_vocabulary")
    views = layer_views(tiny_llama, checkpoint, run, kept_pass=seen)
    assert views.keys() == anew.keys() == {1, 3}
    for layer, view in views.items():
        for name in ("hidden", "attention", "mlp_input", "gate", "intermediate", "down"):
            torch.testing.assert_close(getattr(view, name), getattr(anew[layer], name), rtol=1e-4, atol=1e-5)
    again = direction_vocabulary(tiny_llama, checkpoint, run, 3, TOKEN, direction="mean", kept_pass=seen)
    assert [each.id for each in again.promoted] == [each.id for each in words.promoted]
    found = reconstruction(tiny_llama, checkpoint, Question(prompt=IDS), kept_pass=seen)
    for mode in ("local", "propagated"):
        for layer, fit in found.fits(mode).items():
            expected = fits.fits(mode)[layer].relative_error
            np.testing.assert_allclose(fit.relative_error, expected, rtol=1e-4)


def test_progress_counts_every_layer_and_ends_with_all_steps(tiny_llama, checkpoint):
    told = []
    inspect(tiny_llama, checkpoint, IDS, progress=lambda done, in_all: told.append((done, in_all)))
    in_all = tiny_llama.n_layers + 1
    assert told == [(done, in_all) for done in range(1, in_all + 1)]


def test_progress_that_raises_ends_the_pass_and_leaves_no_hook(tiny_llama, checkpoint):
    class Clicked(BaseException):
        pass

    def stop(done, in_all):
        if done == 2:
            raise Clicked

    def hooks():
        # transformers leaves hooks of its own, once.
        modules = tiny_llama.hf.modules()
        return [hook for m in modules for hook in (*m._forward_hooks, *m._forward_pre_hooks)]

    before, had = forward_pass(tiny_llama, torch.tensor([IDS])).final, hooks()
    with pytest.raises(Clicked):
        inspect(tiny_llama, checkpoint, IDS, progress=stop)
    assert hooks() == had
    assert torch.equal(forward_pass(tiny_llama, torch.tensor([IDS])).final, before)


def test_what_is_kept_is_counted_with_shared_rows_once(tiny_llama, checkpoint, kept):
    _, seen = kept
    row = len(IDS) * tiny_llama.d_model * 4
    # Final and stream of two lanes; h, a and the MLP's output of two layers, where below its change layer 1 ran once.
    assert (4 + 3 + 6) * row <= seen.kept_bytes <= (4 + 12) * row

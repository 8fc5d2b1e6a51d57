"""The floor of a class: what a short fit of the same shape recovers on text that it has not seen."""

import math
from dataclasses import replace
from inspect import unwrap
from types import SimpleNamespace

import health_checker  # noqa: F401
import numpy as np
import pytest
import torch
from conftest import specimen
from faults import FAULTS, HEALTHY
from fitted import Fit, fit_again
from recomputed import Layer, saw_of
from sentence_checker import check
from specimen_pages import opened

from npt_viz.analysis.class_floor import class_floor, spec_of
from npt_viz.analysis.health.rules import WORTH, rank_floor
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.capture.probe import seen_by_base
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.reconstruction import ClassFloor
from npt_viz.results.sentences.reconstruction import class_floor as class_floor_in_words
from npt_viz.training.data import corpus_of
from npt_viz.training.trainer import train

TEXTS = [
    f"{i} bottles stand on the wall and {i * 7 % 13} of them fall down at {i % 5} o'clock" for i in range(12)
]


def test_the_fit_and_the_checkpoint_are_judged_on_the_same_held_out_tokens(tiny_llama):
    """Against the page of each held-out sequence, and against the trainer's own evaluation."""
    adapter = specimen(tiny_llama, "N4", components=2, rank=5)
    done = []
    floor = class_floor(tiny_llama, adapter, TEXTS, steps=30, seed=3, progress=lambda *at: done.append(at))
    training = train(tiny_llama, spec_of(adapter), TEXTS, steps=30, seed=3)
    *_, last = training
    assert floor.recovered == pytest.approx(last.heldout[2].recovered, rel=1e-3, abs=1e-3)
    checkpoint = Checkpoint.from_adapters({2: adapter}, tiny_llama, "specimen")
    shares = [
        reconstruction(tiny_llama, checkpoint, ids.tolist()).local[2].recovered
        for ids in training.corpus.heldout
    ]
    assert floor.adapter_recovered == pytest.approx(np.median(np.concatenate(shares)), rel=1e-4)
    assert floor.n_heldout == sum(map(len, shares)) and floor.n_train == training.corpus.n_train
    assert (floor.targets, floor.rank, floor.components) == (("gate", "up"), 5, 2)
    assert done[-1] == (30, 30)


def test_a_larger_class_reaches_more_and_is_not_the_adapters_own(tiny_llama):
    adapter = specimen(tiny_llama, "N1", components=1, rank=2)
    small = class_floor(tiny_llama, adapter, TEXTS, steps=120)
    large = class_floor(tiny_llama, adapter, TEXTS, targets=("gate", "up", "down"), steps=120)
    assert large.recovered > small.recovered + 0.05
    assert math.isnan(large.adapter_recovered) and large.allows == large.recovered


@pytest.mark.parametrize("variant", ["N2", "T1", "S1-early"])
def test_every_rule_has_a_class(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant)
    spec = spec_of(adapter)
    assert spec.semantics == adapter.semantics and spec.targets == adapter.targets
    assert torch.isfinite(torch.tensor(class_floor(tiny_llama, adapter, TEXTS, steps=5).recovered))


def test_the_base_model_and_the_adapter_stay_as_they_were(tiny_llama):
    adapter = specimen(tiny_llama, "N1")
    before = [p.clone() for p in (*tiny_llama.hf.parameters(), *adapter.parameters())]
    class_floor(tiny_llama, adapter, TEXTS, steps=5)
    after = (*tiny_llama.hf.parameters(), *adapter.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_attention_in_its_standard_path_has_no_floor(tiny_llama):
    with pytest.raises(NptVizError, match="nothing to recover"):
        class_floor(tiny_llama, specimen(tiny_llama, "S0-residual"), TEXTS)


def test_too_little_text_is_a_sentence(tiny_llama):
    with pytest.raises(NptVizError, match="too short"):
        class_floor(tiny_llama, specimen(tiny_llama, "N1"), ["short"])


def is_supported(floor: ClassFloor, again: Fit) -> bool:
    """The checkpoint's share is what is computed anew, and another fit of the shape, by other means, reaches the floor's."""
    return abs(again.own - floor.adapter_recovered) < 1e-4 and again.fitted > floor.recovered - NEAR


NEAR = 0.06
"""L-BFGS and AdamW stop at different places of one shape: 0.007 apart on gate of rank 4, 0.04 on gate and up."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["floor", "stopped early"])
def test_another_fit_by_other_means_reaches_what_the_shape_is_said_to_allow(name):
    made = next(each for each in (*FAULTS, *HEALTHY) if each.name == name)
    model, ((layer, adapter),) = made.base(), opened(made)[1].items()
    floor, corpus = class_floor(model, adapter, made.lines()), corpus_of(model, made.lines(), seed=0)
    with model.lock:
        train, heldout = (
            saw_of(seen_by_base(model, [ids.tolist() for ids in side], [layer]))
            for side in (corpus.train, corpus.heldout)
        )
    again = fit_again(model, adapter, train, heldout)
    assert is_supported(floor, again)
    for wrong in (
        {"recovered": floor.recovered + 0.1},
        {"adapter_recovered": floor.adapter_recovered - 0.01},
    ):
        assert not is_supported(replace(floor, **wrong), again)
    check("class floor", class_floor_in_words(floor), {"floor": floor})
    # Of the evidence the rule reads the floor alone.
    (finding,) = unwrap(rank_floor)(SimpleNamespace(floor=floor, layer=layer))
    data = {"measured": SimpleNamespace(floor=floor), "layer": Layer(model, adapter, heldout)}
    check(f"health: {finding.rule}", finding.meaning, data)
    # "more of the same training is unlikely to help", or it would.
    assert (finding.rule == "rank_floor") == (again.fitted - again.own < WORTH)

"""What cannot work is refused before anything is captured."""

import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.adapter import VARIANTS, random_adapter
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.training.losses import objective
from npt_viz.training.rehearsal import rehearse
from npt_viz.training.spec import AdapterSpec, trainable


def test_nothing_runs_but_one_mlp():
    model, ran = tiny_model(), []
    for layer in range(5):
        model.parts(layer).layer.register_forward_hook(lambda *_: ran.append(1))
    rehearse(model, AdapterSpec(layers=(1, 3), rank=7), objective("direct=1,orthogonality=1,kl=1"))
    assert not ran


@pytest.mark.parametrize(
    ("spec", "losses", "reason"),
    [
        ({"layers": (9,)}, "direct", "layer 9 does not exist"),
        ({"layers": (1,), "rank": 25}, "direct", "rank 25 is more than d_model 24"),
        (
            {"layers": (1,), "targets": ("down",)},
            "direct,bottleneck",
            "layer 1, loss bottleneck: .*down target lives",
        ),
        ({"layers": (1,)}, "orthogonality:as_written=1", r"loss orthogonality as written cannot run"),
        (
            {"layers": (1,), "targets": ("gate",), "semantics": VARIANTS["S1-early"].semantics},
            "consistency",
            "layer 1, loss consistency: an additive adapter has no v_a and v_b",
        ),
    ],
)
def test_what_cannot_work_says_why(tiny_llama, spec, losses, reason):
    with pytest.raises(NptVizError, match=reason):
        rehearse(tiny_llama, AdapterSpec(**{"rank": 7} | spec), objective(losses))


def test_a_checkpoint_for_another_base_is_refused(tiny_llama):
    foreign = random_adapter(2, VARIANTS["N1"].semantics, ("gate",), d_model=32, d_ffn=48, rank=3)
    checkpoint = Checkpoint.from_adapters({2: foreign}, None, "foreign")
    with pytest.raises(NptVizError, match="foreign was made for a base of width 32, and tiny has 24"):
        rehearse(tiny_llama, checkpoint, objective("direct"))


def test_a_layer_that_pools_over_a_text_is_not_trained_on_single_tokens(tiny_llama):
    spec = AdapterSpec(layers=(1,), targets=("gate",), rank=7, semantics=VARIANTS["S0-pooled"].semantics)
    with pytest.raises(NptVizError, match="mean attention of a whole text"):
        rehearse(tiny_llama, spec, objective("direct"))
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, "S0-pooled")}, tiny_llama, "pooled")
    with pytest.raises(NptVizError, match="mean attention of a whole text"):
        rehearse(tiny_llama, checkpoint, objective("direct"))


@pytest.mark.parametrize("variant", trainable())
def test_every_variant_can_be_rehearsed(tiny_llama, variant):
    torch.manual_seed(0)
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, variant)}, tiny_llama, variant)
    rehearse(tiny_llama, checkpoint, objective("direct,decomposed,strength,kl"))

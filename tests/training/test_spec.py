"""Which variants can be trained, what each takes, and that each begins where it changes nothing and learns."""

import copy

import pytest
import torch
from conftest import specimen

from npt_viz.adapter import VARIANTS, Semantics
from npt_viz.adapter.semantics import variant_name
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.training.initialisation import OFF_LOGIT, constant_direction
from npt_viz.training.losses import objective
from npt_viz.training.recipe import FRESH_TARGETS, FRESH_VARIANT
from npt_viz.training.rehearsal import rehearse
from npt_viz.training.spec import AdapterSpec, trainable, why_untrainable
from npt_viz.training.student import student
from npt_viz.training.trainer import train

MET = [name for name, each in VARIANTS.items() if each.semantics.attention == "standard"]


def test_the_variants_of_the_documents_can_be_trained():
    assert {"N1", "N2", "N3", "N4", "N5", "S1-design", "S1-early", "S1-later", "S2", "T1"} <= set(trainable())
    assert not set(MET) & set(trainable()) and MET


@pytest.mark.parametrize("name", trainable())
def test_a_variant_decides_targets_and_forward_pass(name):
    spec = AdapterSpec.of_variant(name.lower(), [3], rank=5)
    assert (spec.semantics, spec.targets) == (VARIANTS[name].semantics, VARIANTS[name].targets)
    assert variant_name(spec.semantics, spec.targets) == name


def test_the_default_variant_has_the_default_targets():
    assert VARIANTS[FRESH_VARIANT].targets == FRESH_TARGETS
    assert AdapterSpec.of_variant(None, [3]) == AdapterSpec(layers=(3,))


def test_what_is_named_beside_a_variant_replaces_its_own():
    spec = AdapterSpec.of_variant("N1", [3], targets=["down"], attention="beside", scale=0.5, components=3)
    assert spec.targets == ("down",) and spec.components == 3
    assert spec.semantics == Semantics(attention="beside", scale=0.5)


@pytest.mark.parametrize(
    ("name", "others", "reason"),
    [
        ("S1", {}, "variant 'S1' does not exist; did you mean S1-"),
        ("X", {}, "variant 'X' does not exist; choose one of N1, N2"),
        ("T1", {"components": 4}, "rule low_rank_tanh has no components, got 4; leave components at 1"),
        ("S1-early", {"targets": ["gate", "up"]}, "modulates the gate alone; use the target gate"),
        ("S1-early", {"attention": "beside"}, "attention 'beside' is not among withheld"),
        ("N1", {"attention": "standard"}, "attention 'standard' is not among withheld, beside"),
        ("T1", {"scale": 0.0}, "scale must be a finite number other than 0, got 0.0"),
        ("S2", {"scale": float("nan")}, "scale must be a finite number other than 0, got nan"),
    ],
)
def test_what_a_variant_cannot_have_is_refused(name, others, reason):
    with pytest.raises(NptVizError, match=reason):
        AdapterSpec.of_variant(name, [3], **others)


@pytest.mark.parametrize("name", MET)
def test_a_target_that_is_already_met_is_said_and_not_trained(tiny_llama, name):
    words = "the target is met before the first step, and there is nothing to learn"
    with pytest.raises(NptVizError, match=f"variant {name.replace('+', '.')}: .*{words}"):
        rehearse(tiny_llama, AdapterSpec.of_variant(name, [2], rank=5), objective("direct"))
    opened = Checkpoint.from_adapters({2: specimen(tiny_llama, name)}, tiny_llama, "opened")
    with pytest.raises(NptVizError, match=f"opened, layer 2 .*{words}"):
        rehearse(tiny_llama, opened, objective("direct"))


def test_every_variant_that_cannot_be_trained_says_why_and_what_to_do():
    for name in set(VARIANTS) - set(trainable()):
        assert "; choose " in why_untrainable(VARIANTS[name].semantics), name


@pytest.fixture(scope="module")
def texts():
    generator = torch.Generator().manual_seed(4)
    return ["".join(chr(c) for c in torch.randint(33, 120, (60,), generator=generator)) for _ in range(14)]


@pytest.mark.parametrize("name", trainable())
def test_a_variant_begins_at_no_modulation_and_finds_a_planted_adapter_of_its_form(tiny_llama, texts, name):
    spec = AdapterSpec.of_variant(name, [2], rank=7)
    settings = {"steps": 60, "batch_tokens": 64, "learning_rate": 2e-2, "warmup": 5, "evaluate_every": 60}
    training = train(tiny_llama, spec, texts, "direct_robust", **settings)
    if not OFF_LOGIT.get(spec.semantics.factor or ""):
        assert training.evaluation()[2].recovered == pytest.approx(0, abs=1e-5)
    planted = copy.deepcopy(training.adapters[2]).requires_grad_(False)
    for part, parameter in planted.named_parameters():
        if not part.endswith((".A", "W_down", "W_a_up")):  # What the form writes; what it reads stays.
            parameter.add_(0.5 * torch.randn(parameter.shape))
    for capture in (training._stream.train, training._stream.heldout):
        tokens = capture.layers[2]
        kept = tokens.attention if spec.semantics.reconstructs.startswith("a +") else 0
        with torch.no_grad():
            tokens.mlp_with_attention.copy_(student(tiny_llama, planted, tokens).output - kept)
    before = training.evaluation()[2].recovered
    *_, last = training
    assert last.heldout[2].recovered > max(0.1, before + 0.1)


@pytest.mark.parametrize("factor", [name for name, logit in OFF_LOGIT.items() if logit])
def test_a_factor_that_is_not_1_at_0_begins_near_1_where_attention_has_a_mean(factor):
    """S1 has no bias: the constant comes from the part that all attention outputs share."""
    attention = torch.randn(211, 13) * 0.2 + torch.randn(13)
    x = OFF_LOGIT[factor] * (attention @ constant_direction(attention)).double()
    factors = 1 + torch.sigmoid(x) if factor == "one_plus_sigmoid" else 0.5 * torch.sigmoid(x) + 0.5
    assert (factors - 1).abs().median() < 0.025 and (factors - 1).abs().max() < 0.2

"""The same facts on the real base model: its norms, its attention sink, thirty layers of rounding."""

import pytest
import torch
from conftest import specimen
from literal import mlp_of, mlp_output
from streams import live

from npt_viz.adapter import VARIANTS
from npt_viz.analysis.parity import parity
from npt_viz.capture.running import forward_pass

pytestmark = pytest.mark.slow

LAYER = 15


@pytest.fixture(scope="module")
def prompt(smollm2):
    return smollm2.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]


def gentle(model, variant, components=3):
    """A random adapter of about the strength of a trained one: real norms make those of the tiny model explode."""
    adapter = specimen(model, variant, LAYER, components=components)
    for parameter in adapter.parameters():
        parameter.mul_(0.1)
    return adapter


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("components", [1, 3])
def test_factored_equals_dense_for_one_token_of_the_real_model(smollm2, prompt, variant, components):
    adapter = gentle(smollm2, variant, components)
    seen = forward_pass(smollm2, prompt, [{LAYER: adapter}], record=[LAYER]).layers[LAYER]
    hidden, attention = seen.hidden[0, -1], seen.attention[0, -1]
    reads_attention = variant in ("S0", "S0-residual") or variant.endswith("+residual")
    z = smollm2.parts(LAYER).mlp_norm(hidden + attention if reads_attention else hidden)
    mlp = mlp_of(smollm2, LAYER)
    read = seen.attention[0] if variant == "S0-pooled" else attention
    dense = mlp_output(mlp, z.double(), variant, adapter, read.double())
    assert (seen.mlp_output[0, -1] - dense).norm() < 1e-5 * dense.norm()
    assert (dense - mlp_output(mlp, z.double())).norm() > 0.001 * dense.norm()


def test_npt_off_is_the_real_base_bit_for_bit(smollm2, prompt):
    before, weights = smollm2.hf(prompt).logits, smollm2.fingerprint(range(30))
    lane = {layer: gentle(smollm2, "N5") for layer in (10, LAYER, 20)}
    assert not torch.equal(smollm2.unembedding(forward_pass(smollm2, prompt, [lane]).final), before)
    assert torch.equal(smollm2.hf(prompt).logits, before)
    assert torch.equal(smollm2.unembedding(forward_pass(smollm2, prompt).final), before)
    assert smollm2.fingerprint(range(30)) == weights


@pytest.mark.parametrize("variant", ["N2", "N5", "S1-early", "T1"])
def test_the_real_model_passes_its_parity(smollm2, variant):
    found = parity(smollm2, live(gentle(smollm2, variant)))
    assert found.passed, found.failed
    off, _, _, dense, cached, _ = found.checks
    assert off.measured == 0.0
    assert dense.measured < 1e-5
    assert cached.measured < 1e-4

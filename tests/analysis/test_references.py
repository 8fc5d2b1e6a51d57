"""The exact patch against real weight edits and against the base model's own layer."""

import pytest
import torch
from conftest import tiny_model
from literal import mlp_of, mlp_output

from npt_viz.analysis.references import exact_patch
from npt_viz.capture.running import forward_pass

PROMPT = torch.tensor([[0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]])
LAYER = 2


@pytest.fixture(scope="module")
def exact_llama():
    return tiny_model(dtype=torch.float64)


@pytest.fixture(scope="module")
def record(exact_llama):
    return forward_pass(exact_llama, PROMPT, record=[LAYER]).layers[LAYER]


def relative(found, expected):
    return ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()


@pytest.mark.parametrize("path", ["withheld", "beside", "standard"])
def test_the_patched_model_is_the_base_model_to_the_last_bits(exact_llama, record, path):
    patch = exact_patch(exact_llama, LAYER, record.hidden[0], record.attention[0], path)
    base, patched = forward_pass(exact_llama, PROMPT, [{}, {LAYER: patch}]).stream
    assert relative(patched, base) < 1e-12


def test_written_into_the_weights_it_makes_a_plain_mlp_write_a_plus_mlp_of_z_c(exact_llama, record):
    """W + v_b v_aᵀ on all three projections of a copy, one token at a time, without any adapter code."""
    patch = exact_patch(exact_llama, LAYER, record.hidden[0], record.attention[0])
    parts, mlp = exact_llama.parts(LAYER), mlp_of(exact_llama, LAYER)
    # The model's own norm: it rounds to float32, which is no matter of the patch.
    norm = parts.mlp_norm
    for token, (h, a) in enumerate(zip(record.hidden[0], record.attention[0], strict=True)):
        edited = type(mlp)(
            *(
                getattr(mlp, target)
                + torch.outer(patch.modulations[target].v_b[token], patch.modulations[target].v_a[token])
                for target in ("gate", "up", "down")
            )
        )
        z, z_C = norm(h), norm(h + a)
        assert relative(mlp_output(edited, z), a + mlp_output(mlp, z_C)) < 1e-12
        assert relative(mlp_output(mlp, z), a + mlp_output(mlp, z_C)) > 0.01
    assert torch.equal(parts.gate.weight, mlp.gate)


def test_each_of_its_updates_has_rank_one_and_reads_its_own_input(exact_llama, record):
    patch = exact_patch(exact_llama, LAYER, record.hidden[0], record.attention[0])
    z = exact_llama.parts(LAYER).mlp_norm(record.hidden[0])
    for target in ("gate", "up"):
        torch.testing.assert_close(
            (patch.modulations[target].v_a * z).sum(-1), torch.ones(11, dtype=torch.float64)
        )
    assert patch.targets == ("gate", "up", "down")
    assert exact_patch(exact_llama, LAYER, record.hidden[0], record.attention[0], "beside").targets == (
        "gate",
        "up",
    )

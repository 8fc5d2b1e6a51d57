"""Fit, references and error split of every layer, against formulas written out in numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model
from literal import LiteralLlama

import npt_viz
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.analysis.reconstruction import reconstruction, split_along
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.question import Question
from npt_viz.results.reconstruction import PositionsCompared
from npt_viz.results.sentences import Basis
from npt_viz.results.sentences.reconstruction import positions
from npt_viz.texts import bundled_texts

DEMOS = Path(__file__).resolve().parents[2] / "checkpoints"
PROMPT = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]


def checkpoint_of(model, variants):
    adapters = {layer: specimen(model, v, layer, seed=layer) for layer, v in variants.items()}
    return Checkpoint.from_adapters(adapters, model, "specimen")


@pytest.fixture(scope="module")
def found(tiny_llama):
    checkpoint = checkpoint_of(tiny_llama, {1: "N4", 3: "N2"})
    return checkpoint, reconstruction(tiny_llama, checkpoint, PROMPT)


def test_every_number_of_a_layer_follows_its_formula(tiny_llama, found):
    checkpoint, result = found
    literal = LiteralLlama(tiny_llama)
    ids = torch.tensor(PROMPT)
    base, _, _ = literal.run(ids)
    npt, _, _ = literal.run(ids, {1: ("N4", checkpoint.adapter(1)), 3: ("N2", checkpoint.adapter(3))})
    dropped = literal.layer(1, base[1].hidden, "dropped")
    y, a = npt[1].mlp_output.numpy(), base[1].attention.numpy()
    target, nothing = a + base[1].mlp_output.numpy(), dropped.mlp_output.numpy()
    size = np.linalg.norm(target, axis=1)
    error = np.linalg.norm(y - target, axis=1)
    fit = result.local[1]
    np.testing.assert_allclose(fit.relative_error, error / size, rtol=1e-4)
    np.testing.assert_allclose(fit.magnitude_ratio, np.linalg.norm(y, axis=1) / size, rtol=1e-4)
    np.testing.assert_allclose(fit.cosine, (y * target).sum(1) / np.linalg.norm(y, axis=1) / size, rtol=1e-4)
    off = np.linalg.norm(nothing - target, axis=1)
    np.testing.assert_allclose(fit.unmodulated_error, off / size, rtol=1e-4)
    np.testing.assert_allclose(fit.recovered, 1 - (error / off) ** 2, rtol=1e-3, atol=1e-3)
    along = ((y - target) * a).sum(1) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(fit.error_along, along / size, rtol=1e-3, atol=1e-4)
    along = ((nothing - target) * a).sum(1) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(fit.unmodulated_along, along / size, rtol=1e-3, atol=1e-4)


def test_without_modulation_the_error_along_a_is_what_attention_did(tiny_llama):
    silent = random_adapter(2, Semantics(), ("gate",), d_model=24, d_ffn=31, rank=5, std=0.0)
    fit = reconstruction(
        tiny_llama, Checkpoint.from_adapters({2: silent}, tiny_llama, "silent"), PROMPT
    ).local[2]
    np.testing.assert_allclose(fit.recovered, 0, atol=1e-5)
    np.testing.assert_allclose(fit.relative_error, fit.unmodulated_error, rtol=1e-6)
    assert (fit.error_along < 0).mean() > 0.5


@pytest.mark.parametrize("mode", ["local", "propagated"])
@pytest.mark.parametrize("layer", [1, 3])
def test_the_two_parts_of_the_error_add_up_to_it(found, mode, layer):
    fit = found[1].fits(mode)[layer]
    np.testing.assert_allclose(np.hypot(fit.error_along, fit.error_beside), fit.relative_error, rtol=1e-5)


def test_splitting_an_error_along_a_known_direction():
    error = torch.tensor([[3.0, 4.0, 0.0], [3.0, 4.0, 0.0], [1.0, 2.0, 2.0]])
    direction = torch.tensor([[2.0, 0.0, 0.0], [0.0, -5.0, 0.0], [0.0, 0.0, 0.0]])
    along, beside = split_along(error, direction)
    assert along.tolist() == [3.0, -4.0, 0.0] and beside.tolist() == [4.0, 3.0, 3.0]


def test_the_first_layer_is_the_same_in_both_modes_and_the_next_is_not(found):
    result = found[1]
    np.testing.assert_allclose(result.local[1].recovered, result.propagated[1].recovered, rtol=1e-5)
    assert np.abs(result.local[3].relative_error - result.propagated[3].relative_error).max() > 0.01


def test_the_exact_patch_is_exact_in_both_modes_for_every_path():
    model = tiny_model(dtype=torch.float64)
    result = reconstruction(
        model, checkpoint_of(model, {0: "N1", 1: "N3", 2: "S0", 3: "S0-residual", 4: "N5"}), PROMPT
    )
    for mode in ("local", "propagated"):
        for fit in result.fits(mode).values():
            assert fit.exact_error.max() < 1e-12
    assert result.local[4].relative_error.min() > 1e-3


def test_a_layer_in_which_attention_stays_has_nothing_to_recover(tiny_llama):
    result = reconstruction(tiny_llama, checkpoint_of(tiny_llama, {3: "S0-residual"}), PROMPT)
    assert "nothing to recover" in result.local[3].problem
    assert np.isnan(result.median("recovered", 3))
    # In a cascade its h is not the base's any more, so there it may have something to repair.
    assert result.local[3].relative_error.min() > 0


def test_one_token_is_enough_and_is_no_sink(tiny_llama):
    result = reconstruction(tiny_llama, checkpoint_of(tiny_llama, {2: "N1"}), [7])
    assert result.n_counted == 1 and not result.is_sink.any()
    assert np.isfinite(result.median("recovered", 2))


def test_activations_that_are_not_numbers_are_a_sentence(tiny_llama):
    checkpoint = checkpoint_of(tiny_llama, {2: "N1"})
    hook = tiny_llama.parts(2).attention.register_forward_hook(
        lambda module, args, output: (output[0].index_fill(1, torch.tensor([4]), torch.nan), *output[1:])
    )
    try:
        with pytest.raises(NotFiniteError, match="output of layer 2 is NaN at token 4"):
            reconstruction(tiny_llama, checkpoint, PROMPT)
    finally:
        hook.remove()


def test_a_layer_that_is_no_npt_layer_is_refused(tiny_llama, found):
    with pytest.raises(NptVizError, match="layer 2 is no NPT layer"):
        reconstruction(tiny_llama, found[0], Question(prompt=PROMPT, layers=(2,)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "without_rope"), [("gate+up-15", False), ("gate+up-15-unhealthy-no-rope", True)]
)
def test_the_demo_trained_without_rope_is_recognised(smollm2, folder, without_rope):
    checkpoint = npt_viz.open_checkpoint(DEMOS / f"smollm2-135m-{folder}", smollm2)
    text = bundled_texts("heldout")[0]
    compared = PositionsCompared(
        deployed=reconstruction(smollm2, checkpoint, text),
        trained=reconstruction(smollm2, checkpoint, Question(prompt=text, positions="trained")),
    )
    said = str(positions(compared, 15, Basis(is_sink=compared.deployed.is_sink)))
    assert ("was trained on attention without positions" in said) == without_rope
    assert without_rope or "no sign" in said

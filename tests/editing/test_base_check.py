"""Updates meet other base models: every difference that changes what the model computes is refused."""

from copy import deepcopy

import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.base_check import check_base
from npt_viz.editing.files.recipe import recipe_text, updates_from_text
from npt_viz.editing.judging.preview import preview
from npt_viz.editing.ledger import Ledger
from npt_viz.editing.making.from_source import update_from
from npt_viz.editing.updates import Factors, Place, Update
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel


@pytest.fixture(scope="module")
def update(tiny_llama):
    adapters = {layer: specimen(tiny_llama, "N1", layer, seed=layer) for layer in (1, 3)}
    npt = Checkpoint.from_adapters(adapters, tiny_llama, "specimen")
    return update_from(tiny_llama, npt, "The cat is", layer=[1, 3])


def remade(model: BaseModel, **settings) -> BaseModel:
    """The same weights, bit for bit, under another config."""
    config = deepcopy(model.hf.config)
    for name, value in settings.items():
        setattr(config, name, value)
    hf = type(model.hf)(config).eval().requires_grad_(False)
    hf.load_state_dict(model.hf.state_dict())
    return BaseModel(hf, model.tokenizer, "other", "made in memory")


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {"rms_norm_eps": 1e-2},
    ],
    ids=["rope", "eps"],
)
def test_the_same_weights_under_another_config_are_another_base(tiny_llama, update, settings):
    other = remade(tiny_llama, **settings)
    ids = torch.tensor([[0, 72, 103, 31, 200]])
    assert not torch.allclose(other.hf(ids).logits, tiny_llama.hf(ids).logits, atol=1e-4)
    sentence = "the config of other has another fingerprint; open the base model that it was made on"
    for use in (
        lambda: check_base(other, update),
        lambda: preview(other, update, "The cat is"),
        lambda: Ledger(other).apply(update),
        lambda: updates_from_text(recipe_text(tiny_llama, [update]), "edits.json", other),
    ):
        with pytest.raises(NptVizError, match=sentence):
            use()
    check_base(remade(tiny_llama), update)


def test_another_weight_in_an_edited_layer_is_another_base(update):
    other = tiny_model()
    other.parts(3).gate.weight.add_(0.5)
    with pytest.raises(NptVizError, match="layer 3 of tiny has another fingerprint"):
        preview(other, update, "The cat is")
    other.parts(1).gate.weight.add_(0.5)
    with pytest.raises(NptVizError, match="layer 1 of tiny has another fingerprint"):
        check_base(other, update)


def test_a_layer_that_the_base_does_not_have_is_refused(update):
    with pytest.raises(NptVizError, match="layer 3, but tiny has layers 0 to 2"):
        check_base(tiny_model(n_layers=3), update)


@pytest.mark.parametrize("target", ["gate", "up", "down"])
def test_an_update_without_a_fingerprint_has_to_fit_the_weights(tiny_llama, target):
    width, inside = tiny_llama.d_model, tiny_llama.d_ffn
    inp, out = (inside, width) if target == "down" else (width, inside)
    fits = Update(
        factors={Place(1, target): Factors(torch.randn(2, inp).numpy(), torch.randn(2, out).numpy())}
    )
    check_base(tiny_llama, fits)
    wide = deepcopy(tiny_llama.hf.config)
    wide.intermediate_size = 37
    stranger = BaseModel(type(tiny_llama.hf)(wide), tiny_llama.tokenizer, "stranger", "")
    shape = (
        r"\(24, 31\), but stranger has \(24, 37\)"
        if target == "down"
        else r"\(31, 24\), but stranger has \(37, 24\)"
    )
    with pytest.raises(NptVizError, match=rf"{target}_proj.weight has shape {shape}"):
        check_base(stranger, fits)

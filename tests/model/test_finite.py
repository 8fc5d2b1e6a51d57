"""Weights that are not finite are named as the model is opened, with the tensor, the place and the remedy."""

import numpy as np
import pytest
import torch
from conftest import tiny_model
from safetensors.torch import load_file, save_file

from npt_viz.errors import NotFiniteError
from npt_viz.model import finite
from npt_viz.model.finite import non_finite
from npt_viz.model.opening import open_model

UP = "model.layers.2.mlp.up_proj.weight"


@pytest.fixture
def stored(tmp_path):
    """change(tensors) -> the folder of the tiny model with some of its weights changed."""

    def saved(change):
        model = tiny_model()
        model.hf.save_pretrained(tmp_path)
        model.tokenizer.save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})
        return tmp_path

    return saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_values_are_counted_and_the_first_is_located(dtype):
    values = np.arange(5 * 7 * 3, dtype=float).reshape(5, 7, 3)
    assert non_finite(torch.tensor(values, dtype=dtype)) is None
    values[1, 2, 0], values[3, 4, 1], values[4, 0, 2] = np.inf, np.nan, -np.inf
    assert non_finite(torch.tensor(values, dtype=dtype)) == (1, 2, 105, (1, 2, 0))
    assert non_finite(torch.empty(0, 3, dtype=dtype)) is None


def test_a_nan_in_the_file_is_named_with_its_index(stored):
    def change(tensors):
        tensors[UP][3, 5] = torch.nan

    with pytest.raises(
        NotFiniteError, match=rf"{UP} holds 1 NaN and 0 infinite of its 744 values, the first at \[3, 5\]"
    ):
        open_model(stored(change), device="cpu")


def test_a_weight_that_float16_cannot_hold_is_told_from_a_damaged_file(stored):
    def change(tensors):
        tensors[UP][:] = 0
        tensors[UP][7, 11] = -70_000

    folder = stored(change)
    with pytest.raises(
        NotFiniteError, match=r"ends at 6\.55e\+04: its largest value is 7e\+04.*float32 or bfloat16"
    ):
        open_model(folder, dtype="float16", device="cpu")
    assert open_model(folder, dtype="bfloat16", device="cpu").dtype == torch.bfloat16


def test_the_same_files_are_read_once_and_changed_files_again(stored, monkeypatch):
    looked = []
    look = finite.bad_weight
    monkeypatch.setattr(finite, "bad_weight", lambda hf: looked.append(1) or look(hf))
    folder = stored(lambda tensors: None)
    for _ in range(2):
        open_model(folder, device="cpu")
    assert len(looked) == 1
    open_model(folder, dtype="bfloat16", device="cpu")
    assert len(looked) == 2, "another dtype may overflow"

    def change(tensors):
        tensors[UP][0, 0] = torch.inf

    with pytest.raises(NotFiniteError):
        open_model(stored(change), device="cpu")


def test_logits_that_are_not_finite_end_a_continuation():
    model = tiny_model()
    model.hf.lm_head.weight[17, 3] = torch.nan
    with pytest.raises(NotFiniteError, match="not finite after 0 tokens that it wrote"):
        model.decode(torch.tensor([[3, 5, 7]]), 2, lambda logits: logits.argmax(-1))

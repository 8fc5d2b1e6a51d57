"""Edited weights and what is left of ΔW, against numpy; in one chunk and in many."""

import numpy as np
import pytest
import torch
from conftest import tiny_model

from npt_viz.editing import realised
from npt_viz.editing.realised import check_finite, edit_report, edited_weight, projection_weight
from npt_viz.editing.updates import Factors, Place, Update
from npt_viz.errors import NptVizError

PLACE = Place(2, "down")


def update(tiny_llama, size=1e-2, seed=0) -> Update:
    rng = np.random.default_rng(seed)
    v_a, v_b = size * rng.normal(size=(2, tiny_llama.d_ffn)), rng.normal(size=(2, tiny_llama.d_model))
    return Update(factors={PLACE: Factors(v_a, v_b)}, alpha=-0.7)


@pytest.fixture(params=[2**22, 5 * 31], ids=["one chunk", "chunks of five rows"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(realised, "CHUNK_ELEMENTS", request.param)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edited_weight_is_the_sum_rounded_once(tiny_llama, dtype):
    weight, edit = projection_weight(tiny_llama, PLACE), update(tiny_llama)
    parts = edit.written(PLACE)
    expected = torch.from_numpy(weight.numpy() + parts.v_b.T @ parts.v_a).to(dtype)
    torch.testing.assert_close(edited_weight(weight, parts, dtype), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("chunks")
def test_every_number_of_a_report_is_that_of_the_dense_matrices(tiny_llama):
    weight, edit = projection_weight(tiny_llama, PLACE).double().numpy(), update(tiny_llama)
    parts = edit.written(PLACE)
    requested = parts.v_b.T.astype(float) @ parts.v_a
    stored, edited = (
        torch.from_numpy(w).float().half().double().numpy() for w in (weight, weight + requested)
    )
    (row,) = edit_report(tiny_llama, [edit], ["float16"]).edits
    assert (row.parameter, row.dtype, row.finite) == ("model.layers.2.mlp.down_proj.weight", "float16", True)
    norm = np.linalg.norm
    assert row.requested_norm == pytest.approx(norm(requested), rel=1e-5)
    assert row.relative_norm == pytest.approx(norm(requested) / norm(weight), rel=1e-5)
    assert row.realised_norm == pytest.approx(norm(edited - stored), rel=1e-4)
    cosine = ((edited - stored) * requested).sum() / norm(edited - stored) / norm(requested)
    assert row.cosine == pytest.approx(cosine, rel=1e-4)
    assert row.changed == pytest.approx((edited != stored).mean(), abs=2e-3)


def test_what_is_not_defined_is_nan_or_infinite():
    model = tiny_model()
    none = update(model) * 0.0
    (row,) = edit_report(model, [none], ["float32"]).edits
    assert np.isnan(row.cosine) and (row.requested_norm, row.realised_norm, row.changed) == (0, 0, 0)
    projection_weight(model, PLACE).zero_()
    (row,) = edit_report(model, [update(model)], ["float32"]).edits
    assert row.relative_norm == float("inf") and row.changed == 1


@pytest.mark.usefixtures("chunks")
def test_a_weight_that_overflows_in_its_last_row_is_refused(tiny_llama):
    v_b = np.zeros((1, tiny_llama.d_model))
    v_b[0, -1] = 1e5
    large = Factors(np.ones((1, tiny_llama.d_ffn)), v_b)
    with pytest.raises(NptVizError, match=r"down_proj.weight would not be finite in float16"):
        check_finite(tiny_llama, {PLACE: large}, torch.float16)
    check_finite(tiny_llama, {PLACE: large}, torch.bfloat16)
    for huge in (v_b, v_b[:, ::-1]):
        large = Factors(np.ones((1, tiny_llama.d_ffn)), huge)
        (row,) = edit_report(tiny_llama, [Update(factors={PLACE: large})], ["float16"]).edits
        assert not row.finite

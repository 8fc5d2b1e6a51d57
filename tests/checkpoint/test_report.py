"""The load report says what is in the file, in numbers counted here by hand."""

import json

import pytest
import torch
from handmade import NP_COMPONENT, format_a, format_c

from npt_viz import open_checkpoint
from npt_viz.results.load_report import LoadReport


def report_of(tmp_path, content) -> LoadReport:
    torch.save(content, tmp_path / "npt_weights.pt")
    return open_checkpoint(tmp_path).report


def test_everything_used_is_said_in_one_line(tmp_path):
    report = report_of(tmp_path, format_a(2) | format_a(4))
    assert report.sentence == (
        "format A: 6 of 6 tensors used, 0 left over; N1 (inferred from key names) on layers 2, 4"
    )


def test_left_overs_are_counted_and_named_whatever_they_are(tmp_path):
    report = report_of(tmp_path, format_a(2) | {"optimizer.step": torch.ones(3), "epoch": 5, 7: "seven"})
    assert (report.tensors_used, report.tensors_total) == (3, 6)
    assert set(report.unused) == {"optimizer.step", "epoch", "7"}
    assert any("3 entries" in warning and "optimizer.step" in warning for warning in report.warnings)


def test_each_layer_is_measured(tmp_path):
    half = {
        name: tensor.bfloat16() for name, tensor in format_a(4, ("gate", "up"), components=3, rank=5).items()
    }
    narrow, wide = report_of(tmp_path, format_a(2, rank=11, prefix=NP_COMPONENT) | half).layers
    assert (narrow.layer, narrow.rank, narrow.components, narrow.targets) == (2, 11, 1, ("gate",))
    assert (wide.layer, wide.rank, wide.components, wide.targets) == (4, 5, 3, ("gate", "up"))
    assert (narrow.dtype, wide.dtype) == ("float32", "bfloat16")
    assert narrow.bytes == 4 * 11 * (24 + 24 + 31)
    assert wide.bytes == 2 * 2 * 3 * 5 * (24 + 24 + 31)


def test_mixed_precision_in_one_layer_is_said(tmp_path):
    tensors = format_a(2)
    tensors["layer_2_np.W_b_up"] = tensors["layer_2_np.W_b_up"].half()
    assert report_of(tmp_path, tensors).layers[0].dtype == "float16+float32"


def test_nan_and_inf_are_counted_apart(tmp_path):
    tensors = format_a(2)
    tensors["layer_2_np.W_down"][0, :3] = float("nan")
    tensors["layer_2_np.W_b_up"][1, :2] = -float("inf")
    report = report_of(tmp_path, tensors)
    assert (report.layers[0].n_nan, report.layers[0].n_inf, report.n_errors) == (3, 2, 1)
    assert any("cannot run" in warning for warning in report.warnings)


def test_a_zero_tensor_is_named_with_its_consequence(tmp_path):
    tensors = format_a(2) | {"layer_2_np.W_b_up": torch.zeros(7, 31)}
    report = report_of(tmp_path, tensors)
    assert report.layers[0].zero_tensors == ("layer_2_np.W_b_up",)
    assert report.layers[0].at_initialisation == {"layer_2_np.W_b_up": "every value is 0"}
    assert any("does nothing" in warning for warning in report.warnings)


def test_trained_tensors_are_not_called_untrained(tmp_path):
    report = report_of(tmp_path, format_a(2) | format_a(3, ("gate", "up", "down")))
    assert all(not row.at_initialisation and not row.zero_tensors for row in report.layers)


def test_what_a_config_claims_is_set_against_the_weights(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"np_rank": 64, "num_ranks": 3, "hidden_size": 24, "intermediate_size": 32, "learning_rate": 1}
        )
    )
    report = report_of(tmp_path, format_a(2, components=3, rank=11))
    found = {claim.key: (claim.claimed, claim.found, claim.agrees) for claim in report.claims}
    assert found == {
        "np_rank": (64, 11, False),
        "num_ranks": (3, 3, True),
        "hidden_size": (24, 24, True),
        "intermediate_size": (32, 31, False),
    }
    assert any("np_rank 64, the weights say 11" in warning for warning in report.warnings)


def test_ranks_that_differ_are_found_as_a_list(tmp_path):
    (tmp_path / "config.json").write_text('{"np_rank": 7}')
    [claim] = report_of(tmp_path, format_a(2, rank=7) | format_a(3, rank=5)).claims
    assert (claim.found, claim.agrees) == ([5, 7], False)


def test_a_wrong_layer_list_in_format_c_is_a_claim_that_fails(tmp_path):
    content = format_c((1, 4))
    content["config"]["npt_layer_indices"] = [4, 2]
    claim = next(c for c in report_of(tmp_path, content).claims if c.key == "npt_layer_indices")
    assert (claim.claimed, claim.found, claim.agrees) == ([2, 4], [1, 4], False)


@pytest.mark.parametrize("value", [None, "many", [[1]], {"a": 1}, [None]])
def test_nonsense_claims_are_reported_not_believed(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps({"np_rank": value, "npt_layers": value}))
    assert not any(claim.agrees for claim in report_of(tmp_path, format_a(2)).claims)


def test_the_report_is_plain_json(tmp_path, tiny_llama):
    tensors = format_a(2) | {"x": torch.ones(1)}
    tensors["layer_2_np.W_down"][0, 0] = float("nan")
    torch.save(tensors, tmp_path / "npt_weights.pt")
    report = open_checkpoint(tmp_path, tiny_llama).report
    again = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert again["tensors_used"] == 3 and again["unused"] == ["x"] and again["n_errors"] == 1
    assert again["layers"][0]["rank"] == 7 and again["layers"][0]["finite"] is False
    assert again["provenance"] == "inferred from key names" and again["semantics"] == "N1"
    assert again["base_match"]["status"] == "unknown"


def test_the_report_is_made_once(tmp_path):
    torch.save(format_a(2), tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.report is checkpoint.report
    assert checkpoint.files.store.read_names == list(format_a(2))

"""From a path to the weights: run directories, folders, bare files, and what is said where there is nothing."""

import json

import pytest
import torch
from handmade import S2, format_a, format_b
from safetensors.torch import save_file

from npt_viz import NptVizError, open_checkpoint


def written(folder, layer, name="npt_weights.pt"):
    """A format A file with one layer, by whose number it is told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(format_a(layer), folder / name)
    return folder


def layer_of(path) -> int:
    [layer] = open_checkpoint(path).layers
    return layer


def test_a_run_directory_opens_best_then_final_then_the_last_step(tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    written(checkpoints / "checkpoint-900", 1)
    assert layer_of(tmp_path / "run") == 1
    written(checkpoints / "checkpoint-1100", 2)
    assert layer_of(tmp_path / "run") == 2
    written(checkpoints / "final", 3)
    assert layer_of(tmp_path / "run") == 3
    written(checkpoints / "best", 4)
    assert layer_of(tmp_path / "run") == 4
    assert layer_of(checkpoints) == 4
    assert layer_of(checkpoints / "checkpoint-900") == 1
    assert layer_of(checkpoints / "final" / "npt_weights.pt") == 3


def test_the_choice_in_a_run_directory_is_said(tmp_path):
    written(tmp_path / "checkpoints" / "best", 1)
    written(tmp_path / "checkpoints" / "checkpoint-10", 1)
    assert any(
        "checkpoints/best" in w and "checkpoint-10" in w for w in open_checkpoint(tmp_path).report.warnings
    )


def test_training_state_and_logs_are_never_read(tmp_path):
    """They would not even parse."""
    written(tmp_path / "checkpoints" / "best", 1)
    (tmp_path / "checkpoints" / "best" / "training_state.pt").write_bytes(b"\x00not a torch file")
    (tmp_path / "training_log.jsonl").write_text("{")
    (tmp_path / "evaluation").mkdir()
    assert layer_of(tmp_path) == 1


def test_accumulated_weights_are_found_and_named_where_others_lie_beside(tmp_path):
    written(tmp_path, 3, "accumulated_npt_weights.pt")
    assert layer_of(tmp_path) == 3
    written(tmp_path, 2)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.layers == (2,)
    assert any("accumulated_npt_weights.pt" in warning for warning in checkpoint.report.warnings)
    assert layer_of(tmp_path / "accumulated_npt_weights.pt") == 3


def test_a_single_file_of_any_name_is_found_in_its_folder(tmp_path):
    written(tmp_path, 3, "my_adapter.pt")
    (tmp_path / "training_state.pt").write_bytes(b"junk")
    assert layer_of(tmp_path) == 3


def test_a_checkpoint_is_called_by_its_run_not_by_the_name_every_file_has(tmp_path):
    written(tmp_path / "wide-gate" / "checkpoints" / "best", 1)
    assert open_checkpoint(tmp_path / "wide-gate").name == "wide-gate/best"
    written(tmp_path / "plain", 1)
    assert open_checkpoint(tmp_path / "plain").name == "plain"
    written(tmp_path, 1, "mine.pt")
    assert open_checkpoint(tmp_path / "mine.pt").name == "mine.pt"


def test_claims_come_from_the_run_that_a_stage_belongs_to(tmp_path):
    written(tmp_path / "checkpoints" / "best", 1)
    (tmp_path / "config.json").write_text(json.dumps({"np_rank": 64, "num_ranks": 1}))
    claims = {claim.key: claim for claim in open_checkpoint(tmp_path).report.claims}
    assert (claims["np_rank"].claimed, claims["np_rank"].found, claims["np_rank"].agrees) == (64, 7, False)
    assert claims["num_ranks"].agrees


def test_a_damaged_claim_does_not_stop_good_weights(tmp_path):
    written(tmp_path, 1)
    (tmp_path / "config.json").write_text('{"np_rank": 6')
    checkpoint = open_checkpoint(tmp_path)
    assert any("config.json" in warning for warning in checkpoint.report.warnings)


def failure(path) -> str:
    with pytest.raises(NptVizError) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_missing_path_is_named(tmp_path):
    assert "no such file" in failure(tmp_path / "nowhere")


def test_a_directory_without_a_checkpoint_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    message = failure(tmp_path)
    assert "npt_config.json" in message and "npt_weights.pt" in message


def test_a_folder_of_checkpoints_lists_them(tmp_path):
    written(tmp_path / "one", 1)
    written(tmp_path / "two", 1)
    assert "one, two" in failure(tmp_path)


def test_two_nameless_files_are_not_guessed_between(tmp_path):
    written(tmp_path, 1, "a.pt")
    written(tmp_path, 1, "b.pt")
    assert "a.pt, b.pt" in failure(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    weight_map = {name: "model-00001-of-00002.safetensors" for name in format_b(1, S2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "model-00001-of-00002.safetensors" in failure(tmp_path)


def test_a_tensor_that_no_shard_has_is_named(tmp_path):
    """Otherwise a whole layer could be missing unnoticed."""
    tensors = format_b(1, S2) | format_b(2, S2)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    save_file(format_b(1, S2), tmp_path / files[0])
    save_file({"model.norm.weight": torch.ones(3)}, tmp_path / files[1])
    weight_map = {name: files["layers.2." in name] for name in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "model.layers.2.adapter.A_proj.weight" in failure(tmp_path)


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/passwd"])
def test_an_index_cannot_point_outside_its_folder(tmp_path, shard):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))
    assert "outside" in failure(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', "{}", "\udc80"])
def test_a_damaged_index_is_a_sentence(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(text.encode("utf-8", "surrogateescape"))
    failure(tmp_path)
    failure(index.parent)


def test_half_a_native_folder_names_the_missing_half(tmp_path):
    (tmp_path / "npt_config.json").write_text("{}")
    assert "npt_weights.safetensors is missing" in failure(tmp_path)


@pytest.mark.parametrize("scale", ["0.1", float("nan"), [0.1]])
def test_a_scale_that_is_no_number_is_refused(tmp_path, scale):
    save_file(format_b(1, S2), tmp_path / "model.safetensors")
    torch.save({"step": 1, "adapter_config": {"modulation_scale": scale}}, tmp_path / "training_info.pt")
    assert "modulation_scale" in failure(tmp_path)

"""From a path to the weights: run directories, folders, bare files, and what is said where there is nothing."""

import json

import pytest
import torch
from handmade import S2, format_a, format_b, format_c
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


def sharded(folder, writer, name, count=3, index=True):
    """Layers 1 to `count`, one in each shard; the shards."""
    files = [folder / name.format(f"{i:05d}-of-{count:05d}") for i in range(1, count + 1)]
    listed = {}
    for layer, file in enumerate(files, start=1):
        writer(format_b(layer, S2), file)
        listed |= dict.fromkeys(format_b(layer, S2), file.name)
    if index:
        stem, suffix = name.split("-{}")
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": listed}))
    return files


WRITERS = {"bin": (torch.save, "pytorch_model-{}.bin"), "safetensors": (save_file, "model-{}.safetensors")}
each_writer = pytest.mark.parametrize(("writer", "name"), WRITERS.values(), ids=WRITERS)


@each_writer
@pytest.mark.parametrize("index", [True, False])
def test_shards_of_any_kind_open_together_from_any_of_their_paths(tmp_path, writer, name, index):
    files = sharded(tmp_path, writer, name, index=index)
    for path in (
        tmp_path,
        files[1],
        *([tmp_path / f"{name.replace('-{}', '')}.index.json"] if index else []),
    ):
        checkpoint = open_checkpoint(path)
        assert checkpoint.layers == (1, 2, 3)
        assert (checkpoint.report.tensors_used, checkpoint.report.tensors_total) == (9, 9)
        assert (
            any("the shards that the names tell" in w.replace("3 ", "") for w in checkpoint.report.warnings)
            != index
        )
        stored = checkpoint.adapter(3).modulation("gate").W_a_up[0].T
        assert torch.equal(stored, format_b(3, S2)["model.layers.3.adapter.B_model.weight"])


@each_writer
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("gone", [0, 2])
def test_a_checkpoint_with_a_shard_missing_never_opens_as_whole(tmp_path, writer, name, index, gone):
    files = sharded(tmp_path, writer, name, index=index)
    files[gone].unlink()
    for path in (tmp_path, files[1]):
        with pytest.raises(NptVizError, match=files[gone].name):
            open_checkpoint(path)


def test_a_shard_that_is_a_pointer_is_said(tmp_path):
    files = sharded(tmp_path, *WRITERS["bin"])
    files[1].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(NptVizError, match=r"00002-of-00003\.bin: is a Git LFS pointer"):
        open_checkpoint(tmp_path)


def test_an_index_that_lists_fewer_shards_than_their_names_tell_is_refused(tmp_path):
    sharded(tmp_path, *WRITERS["bin"])
    index = tmp_path / "pytorch_model.bin.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    kept = {tensor: shard for tensor, shard in listed.items() if "00003-of" not in shard}
    index.write_text(json.dumps({"weight_map": kept}))
    assert "lists 2 of the 3 shards" in failure(index.parent)


@pytest.mark.parametrize("form", ["checkpoints/{}", "checkpoints/checkpoint-{}", "checkpoint-{}"])
def test_stages_side_by_side_open_the_best_and_offer_the_others(tmp_path, form):
    for i, stage in enumerate(("800", "900", "final", "best")):
        if form == "checkpoints/{}" and stage.isdigit():
            stage = f"checkpoint-{stage}"
        written(tmp_path / form.format(stage), i)
        checkpoint = open_checkpoint(tmp_path)
        assert checkpoint.layers == (i,)
        assert len(checkpoint.report.others) == i
    assert any(
        "also there: " in w and w.index("final") < w.index("900") < w.index("800")
        for w in checkpoint.report.warnings
    )
    assert [open_checkpoint(path).layers for path in checkpoint.report.others] == [(2,), (1,), (0,)]


def test_a_parent_folder_of_runs_lists_them(tmp_path):
    written(tmp_path / "gate" / "checkpoints" / "best", 1)
    written(tmp_path / "wide" / "checkpoint-40", 1)
    assert "holds 2 runs (gate, wide)" in failure(tmp_path)
    written(tmp_path / "merged", 1)
    assert "holds 3 checkpoints (gate, merged, wide)" in failure(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("training_state.pt", "the state of a training"),
        ("training_info.pt", "the record of a training's settings"),
        ("multi_layer_state.pt", "multi-layer training"),
        ("optimizer.bin", "the optimiser's part"),
        ("optimizer.pt", "the optimiser's part"),
        ("config.json", "a config"),
        ("training_metadata.json", "the record of a training"),
    ],
)
def test_what_lies_beside_the_weights_says_what_it_is_and_which_file_is_meant(tmp_path, name, words):
    """Its content would not even parse: it is told by its name, and not read."""
    (tmp_path / name).write_bytes(b"\x80junk")
    message = failure(tmp_path / name)
    assert words in message and "no adapter weights lie beside it" in message
    written(tmp_path, 1)
    assert "the weights that are meant are npt_weights.pt" in failure(tmp_path / name)


def test_a_file_of_a_stage_is_sent_to_the_weights_of_its_stage(tmp_path):
    written(tmp_path / "checkpoints" / "best", 1)
    (tmp_path / "checkpoints" / "best" / "training_state.pt").write_bytes(b"junk")
    (tmp_path / "config.json").write_text("{}")
    assert "meant are npt_weights.pt" in failure(tmp_path / "checkpoints" / "best" / "training_state.pt")
    assert "meant are checkpoints/best/npt_weights.pt" in failure(tmp_path / "config.json")


WRAPPED = {
    "model_state_dict": lambda state: {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: torch.ones(2)}},
    },
    "npt_weights": lambda state: {"epoch": 3, "npt_weights": state},
    "model.module": lambda state: {"model": {"module": state}, "step": 3},
}


@pytest.mark.parametrize("path", WRAPPED)
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "base_model.model.", "student.", "module._orig_mod."]
)
def test_wrappers_and_prefixes_are_read_through_and_said(tmp_path, path, prefix):
    state = {
        f"{prefix}{name}": tensor for name, tensor in (format_a(1) | format_a(3, ("gate", "up"))).items()
    }
    torch.save(WRAPPED[path](state), tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.layers == (1, 3) and checkpoint.report.tensors_used == 9
    assert torch.equal(checkpoint.adapter(1).modulation("gate").W_down[0], format_a(1)["layer_1_np.W_down"])
    told = checkpoint.report.warnings
    assert any(f"the weights lie inside {path} of npt_weights.pt" in w for w in told)
    assert any(f"begin with {prefix}," in w for w in told) == bool(prefix)
    assert checkpoint.report.unused == (("optimizer_state_dict",) if path == "model_state_dict" else ())


def test_a_wrapper_of_format_c_is_its_own_and_is_not_remarked(tmp_path):
    torch.save(format_c((1,)), tmp_path / "npt.pt")
    assert not any("lie inside" in w or "begin with" in w for w in open_checkpoint(tmp_path).report.warnings)


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [
        ("model", "ema", "model"),
        ("ema", "student", "student"),
        ("teacher", "model_state_dict", "model_state_dict"),
    ],
)
def test_of_two_models_in_one_file_it_is_said_which_is_read(tmp_path, first, second, read):
    other = {name: tensor + 1 for name, tensor in format_a(1).items()}
    twice = {first: format_a(1), second: format_a(1), "step": 3}
    twice[read] = {"inner": other}
    torch.save(twice, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert torch.equal(checkpoint.adapter(1).modulation("gate").W_down[0], other["layer_1_np.W_down"])
    (said,) = [w for w in checkpoint.report.warnings if "each hold" in w]
    left = second if read == first else first
    assert f"{first}, {second} each hold adapters of layer 1: {read} is read" in said and f"({left})" in said


def test_two_models_of_which_none_is_known_to_be_meant_are_not_guessed_between(tmp_path):
    torch.save({"best": format_a(1), "ema": format_a(1)}, tmp_path / "npt_weights.pt")
    message = failure(tmp_path / "npt_weights.pt")
    assert (
        "best, ema each hold adapters of layer 1" in message and "save the one that is meant alone" in message
    )


def test_two_dicts_with_different_layers_are_both_read(tmp_path):
    torch.save({"model": format_a(1), "ema": format_a(3)}, tmp_path / "npt_weights.pt")
    assert open_checkpoint(tmp_path).layers == (1, 3)


def test_two_models_side_by_side_in_one_dict_are_told_by_their_prefixes(tmp_path):
    tensors = {f"{prefix}{n}": t.clone() for prefix in ("student.", "ema.") for n, t in format_a(1).items()}
    torch.save(tensors, tmp_path / "npt_weights.pt")
    message = failure(tmp_path / "npt_weights.pt")
    assert "several adapters of layer 1" in message and "one prefix alone (student. and ema.)" in message


def test_layers_with_and_without_a_prefix_are_all_read_and_said(tmp_path):
    """Such a file once opened with a layer missing."""
    torch.save(format_a(1) | {f"module.{n}": t for n, t in format_a(3).items()}, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.layers == (1, 3)
    assert any("no prefix (1); module. (3)" in w for w in checkpoint.report.warnings)


def test_a_layer_put_together_from_two_prefixes_is_refused(tmp_path):
    tensors = format_a(1)
    tensors["module.layer_1_np.W_down"] = tensors.pop("layer_1_np.W_down")
    torch.save(tensors, tmp_path / "npt_weights.pt")
    assert "layer 1 is put together" in failure(tmp_path / "npt_weights.pt")


@pytest.mark.parametrize(
    "name",
    [
        "layer_2_np.W_down_top",
        "model.layers.2.adapter.A_proj.bias",
        "blocks.layer_2.W_a_up",
        "layers.2.x.B_ffn",
    ],
)
def test_a_name_that_is_nearly_an_adapters_is_not_left_over(tmp_path, name):
    torch.save(format_a(1) | {name: torch.ones(24, 7)}, tmp_path / "npt_weights.pt")
    message = failure(tmp_path / "npt_weights.pt")
    assert name in message and "layer 2 would be missing" in message


def test_other_names_of_the_same_tensor_are_not_left_over(tmp_path):
    tensors = format_b(1, S2)
    gate = torch.ones(31, 24)
    tensors |= {
        name.replace("layers.1.", "layers.1.inner."): tensor for name, tensor in list(tensors.items())
    }
    tensors |= {"model.layers.1.mlp.gate_proj.weight": gate, "tied_gate": gate, "foreign": torch.ones(3)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    report = open_checkpoint(tmp_path).report
    assert (report.tensors_used, report.tensors_total, report.unused) == (3, 4, ("foreign",))
    assert set(report.aliases) == {name for name in tensors if "inner" in name} | {"tied_gate"}


def test_equal_values_under_two_names_are_no_alias(tmp_path):
    tensors = format_a(1)
    tensors |= {f"copy.{name}": tensor.clone() for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "npt_weights.pt")
    assert "one prefix alone (no prefix and copy.)" in failure(tmp_path / "npt_weights.pt")


def test_meta_tensors_have_no_values_and_say_so(tmp_path):
    torch.save({name: tensor.to("meta") for name, tensor in format_a(1).items()}, tmp_path / "npt_weights.pt")
    assert "layer_1_np.W_down is a meta tensor" in failure(tmp_path / "npt_weights.pt")

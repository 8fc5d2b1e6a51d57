"""One opened checkpoint: what fits the base model, what an adapter is, and what stays in memory."""

import threading

import pytest
import torch
from conftest import specimen, tiny_model
from handmade import S2, format_a, format_b
from safetensors.torch import save_file

from npt_viz import NptVizError, open_checkpoint
from npt_viz.capture.inspection import inspect
from npt_viz.checkpoint import Checkpoint, opening


@pytest.fixture
def two_layers(tmp_path):
    torch.save(format_a(1) | format_a(3, ("gate", "up")), tmp_path / "npt_weights.pt")
    return tmp_path


def test_an_adapter_is_float32_frozen_and_not_training(tmp_path, tiny_llama):
    torch.save({name: t.bfloat16() for name, t in format_a(1).items()}, tmp_path / "npt_weights.pt")
    adapter = open_checkpoint(tmp_path, tiny_llama).adapter(1)
    assert not adapter.training
    for parameter in adapter.parameters():
        assert parameter.dtype == torch.float32 and not parameter.requires_grad
    assert torch.equal(
        adapter.modulations["gate"].W_down[0], format_a(1)["layer_1_np.W_down"].bfloat16().float()
    )


def test_wrong_dimensions_name_both_models(two_layers, tiny_llama):
    wide = {
        name: torch.ones(29 if size == 24 else size, t.shape[1])
        for name, t in format_a(1).items()
        for size in [t.shape[0]]
    }
    wide["layer_1_np.W_a_up"] = torch.ones(7, 29)
    torch.save(wide, two_layers / "npt_weights.pt")
    with pytest.raises(NptVizError, match="made for d_model 29, d_ffn 31, but tiny has 24, 31"):
        open_checkpoint(two_layers, tiny_llama)
    assert open_checkpoint(two_layers).layout.d_model == 29, "without a model it opens"


def test_a_layer_beyond_the_model_is_refused(two_layers):
    with pytest.raises(NptVizError, match="layer 3, but tiny has layers 0 to 2"):
        open_checkpoint(two_layers, tiny_model(n_layers=3))


def test_a_layer_that_is_not_there_is_answered_with_those_that_are(two_layers):
    checkpoint = open_checkpoint(two_layers)
    for ask in (checkpoint.adapter, checkpoint.semantics):
        with pytest.raises(NptVizError, match="no layer 2; its NPT layers are 1, 3"):
            ask(2)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_a_poisoned_layer_opens_reports_and_refuses_to_run(tmp_path, tiny_llama, poison):
    tensors = format_a(1) | format_a(3, ("gate", "up"))
    tensors["layer_3_np.W_a_up_up"][2, 3] = poison
    tensors["layer_3_np.W_a_up_up"][0, 1] = poison
    torch.save(tensors, tmp_path / "npt_weights.pt")
    checkpoint = open_checkpoint(tmp_path, tiny_llama)
    healthy, ill = checkpoint.report.layers
    assert healthy.finite and not ill.finite and checkpoint.report.n_errors == 1
    assert (ill.n_nan, ill.n_inf) == ((2, 0) if poison != poison else (0, 2))
    checkpoint.adapter(1)
    with pytest.raises(NptVizError, match=r"cannot run layer 3: layer_3_np\.W_a_up_up holds"):
        checkpoint.adapter(3)


def test_half_precision_that_overflows_is_found(tmp_path):
    tensors = {name: t.half() for name, t in format_a(1).items()}
    tensors["layer_1_np.W_down"][0, 0] = 70000.0
    torch.save(tensors, tmp_path / "npt_weights.pt")
    assert open_checkpoint(tmp_path).report.layers[0].n_inf == 1


def test_an_adapter_in_memory_is_the_same_object(two_layers):
    checkpoint = open_checkpoint(two_layers)
    assert checkpoint.adapter(1) is checkpoint.adapter(1)


def test_the_memory_kept_is_bounded(two_layers, monkeypatch):
    checkpoint = open_checkpoint(two_layers)
    monkeypatch.setattr(opening, "CACHE_BYTES", 1)
    checkpoint.adapter(1)
    checkpoint.adapter(3)
    checkpoint.adapter(1)
    assert checkpoint.files.store.read_names.count("layer_1_np.W_down") == 2


def test_live_adapters_are_never_dropped(tiny_llama, monkeypatch):
    monkeypatch.setattr(opening, "CACHE_BYTES", 1)
    live = {1: specimen(tiny_llama, "N1", 1), 3: specimen(tiny_llama, "N5", 3)}
    checkpoint = Checkpoint.from_adapters(live, tiny_llama, "live")
    assert (
        checkpoint.adapter(1) is live[1]
        and checkpoint.adapter(3) is live[3]
        and checkpoint.adapter(1) is live[1]
    )


@pytest.mark.parametrize("variant", ["N1", "N3", "N5", "S0", "S1-early", "S2", "T1"])
def test_live_adapters_look_like_an_opened_file(tiny_llama, variant):
    live = specimen(tiny_llama, variant, 2)
    checkpoint = Checkpoint.from_adapters({2: live}, tiny_llama, "live")
    assert (checkpoint.format, checkpoint.path, checkpoint.layers) == ("memory", None, (2,))
    assert checkpoint.config == {}
    assert checkpoint.report.semantics == variant
    assert checkpoint.report.tensors_used == checkpoint.report.tensors_total
    assert checkpoint.semantics(2) == live.semantics


def test_live_adapters_are_reported_as_they_are_now(tiny_llama):
    live = specimen(tiny_llama, "N1", 2, components=1)
    with torch.no_grad():
        live.modulations["gate"].W_b_up.zero_()
    report = Checkpoint.from_adapters({2: live}, tiny_llama, "live").report
    assert report.layers[0].zero_tensors == ("layer_2_np.W_b_up",)


def test_another_reading_shares_the_file_and_leaves_the_first_alone(two_layers, tiny_llama):
    first = open_checkpoint(two_layers, tiny_llama)
    second = first.with_semantics({3: "N3"})
    assert (first.adapter(3).attention, second.adapter(3).attention) == ("withheld", "beside")
    assert second.adapter(1).attention == "withheld"
    assert second.report.provenance == "layer 1: inferred from key names; layer 3: chosen by the user"


def test_an_opened_checkpoint_can_be_inspected(two_layers, tiny_llama):
    run = inspect(tiny_llama, open_checkpoint(two_layers, tiny_llama), "hello there")
    assert set(run.layers) == {1, 3} and run.layers[3].variant == "N4"


def test_threads_get_one_adapter(two_layers):
    checkpoint, got = open_checkpoint(two_layers), []
    threads = [threading.Thread(target=lambda: got.append(checkpoint.adapter(3))) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 7 and len(set(map(id, got))) == 1


def test_format_b_keeps_base_weights_out_of_the_count(tmp_path, tiny_llama):
    base = {name: t for name, t in tiny_llama.hf.state_dict().items() if name != "lm_head.weight"}
    save_file(format_b(1, S2) | base, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path, tiny_llama)
    report = checkpoint.report
    assert (report.tensors_used, report.tensors_total, report.unused) == (3, 3, ())
    assert report.base_tensors == len(base)


def test_an_unreadable_file_is_a_sentence(two_layers, monkeypatch):
    """As root every file can be read, so the refusal is staged."""

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "npt_weights.pt")

    monkeypatch.setattr(opening, "open_files", denied)
    with pytest.raises(NptVizError, match="Permission denied"):
        open_checkpoint(two_layers)


def test_no_memory_for_a_layer_is_a_sentence(two_layers, monkeypatch):
    checkpoint = open_checkpoint(two_layers)

    def exhausted(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(opening, "modulation", exhausted)
    with pytest.raises(NptVizError, match=r"npt_weights\.pt: layer 3 .*memory"):
        checkpoint.adapter(3)
    monkeypatch.undo()
    assert checkpoint.adapter(3).layer == 3, "nothing half-loaded stays behind"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_adapter_lives_where_its_layer_lives(two_layers):
    model = tiny_model()
    model.hf.to("cuda")
    assert open_checkpoint(two_layers, model).adapter(1).modulations["gate"].W_down.is_cuda

"""Opening a base model from files made here; real SmolLM2 where it is on the machine (slow)."""

import gc
import json
import shutil
import weakref

import gguf
import pytest
import torch
from conftest import tiny_model
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, logging

from npt_viz.errors import NptVizError
from npt_viz.model import opening
from npt_viz.model.opening import open_model
from npt_viz.model.packaged import PACKAGED, ModelNotHereError

IDS = torch.tensor([[3, 5, 7, 11]])


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A bf16 model as a user keeps one: written by save_pretrained, tokenizer beside it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = tiny_model(dtype=torch.bfloat16)
    logging.disable_progress_bar()
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "tiny")


def edit_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def placement(of_layer):
    """accelerate's device_map: everything on the CPU but the layers."""
    parts = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    return dict.fromkeys(parts, "cpu") | {f"model.layers.{i}": of_layer(i) for i in range(5)}


def test_a_folder_gives_the_model_that_transformers_reads(original):
    model = open_model(original)
    reference = LlamaForCausalLM.from_pretrained(original, dtype=torch.float32)
    torch.testing.assert_close(model.hf(IDS).logits, reference(IDS).logits, rtol=0, atol=0)
    assert (model.n_layers, model.d_model, model.d_ffn, model.context_length) == (5, 24, 31, 97)
    assert model.tokenizer("ab")["input_ids"] == tiny_model().tokenizer("ab")["input_ids"]
    assert model.source == "folder"


def test_an_open_model_can_be_read_and_not_trained(original):
    model = open_model(original)
    assert not model.hf.training
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert model.hf.config._attn_implementation == "sdpa"


def test_auto_dtype_is_float32_on_the_cpu_and_a_named_one_is_obeyed(original):
    assert open_model(original, device="cpu").dtype == torch.float32
    for dtype in ("bfloat16", torch.float16):
        assert open_model(original, dtype=dtype).dtype == (torch.bfloat16 if dtype == "bfloat16" else dtype)


def test_auto_dtype_is_half_of_float32_where_only_that_fits_and_says_so(original, monkeypatch):
    needed = open_model(original, device="cpu").memory_bytes()
    monkeypatch.setattr(opening, "free_bytes", lambda device: needed - 1)
    model = open_model(original, device="cpu")
    assert model.dtype == torch.bfloat16
    assert any("opened in bfloat16, because float32 needs" in note for note in model.notes)
    assert "needs" in sentence(original, device="cpu", dtype="float32"), (
        "one who asks for float32 gets no other"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_dtype_is_the_checkpoints_own_on_a_gpu(original):
    model = open_model(original)
    assert (model.device.type, model.dtype) == ("cuda", torch.bfloat16)


def test_the_fingerprint_does_not_depend_on_how_the_model_was_opened(original):
    prints = [open_model(original, dtype=d).fingerprint([1, 3]) for d in ("float32", "bfloat16")]
    offloaded = open_model(original, device=placement(lambda layer: "disk" if layer == 3 else "cpu"))
    assert offloaded.parts(3).gate.weight.is_meta
    assert prints[0] == prints[1] == offloaded.fingerprint([3, 1])


def test_the_fingerprint_notices_one_weight_in_its_own_layer(original):
    model = open_model(original)
    before = model.fingerprint([0, 2])
    with torch.no_grad():
        model.parts(2).attention.q_proj.weight[7, 11] += 0.5
    after = model.fingerprint([0, 2])
    assert after["config"] == before["config"]
    assert after["layers"]["0"] == before["layers"]["0"]
    assert after["layers"]["2"] != before["layers"]["2"]


def test_the_fingerprint_notices_a_setting_and_forgives_float32_notation(original):
    model = open_model(original)
    before = model.fingerprint([0])["config"]
    model.hf.config.rms_norm_eps = float(torch.tensor(model.hf.config.rms_norm_eps))
    assert model.fingerprint([0])["config"] == before
    model.hf.config.rms_norm_eps *= 2
    assert model.fingerprint([0])["config"] != before


def test_a_model_on_disk_computes_what_the_model_in_memory_computes(original):
    torch.testing.assert_close(
        open_model(original, device=placement(lambda layer: "disk")).hf(IDS).logits,
        open_model(original).hf(IDS).logits,
        rtol=0,
        atol=0,
    )


def test_map_leaves_it_to_accelerate(original):
    assert open_model(original, device="map").hf(IDS).logits.shape == (1, 4, 258)


def test_progress_names_the_stages_and_ends_whole(original):
    told = []
    open_model(original, progress=lambda stage, fraction: told.append((stage, fraction)))
    assert told[-1] == ("ready", 1.0)
    assert "loading the weights" in dict(told)


# Bad input: one sentence that names what is wrong and what to do.


def sentence(name, **settings) -> str:
    with pytest.raises(NptVizError) as caught:
        open_model(name, **settings)
    message = str(caught.value)
    assert "\n" not in message and ";" in message
    return message


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00002-of-00002.safetensors" in sentence(folder)


def test_weights_that_are_only_a_pickle_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "its weights are pytorch_model.bin, a pickle" in sentence(folder)


def test_a_missing_tensor_is_never_filled_with_random_numbers(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 of its weights are missing" in (found := sentence(folder))
    assert "model.layers.2.mlp.up_proj.weight" in found


def test_a_tensor_of_another_shape_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(29, 24, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.2.mlp.up_proj.weight" in sentence(folder)


def test_truncated_weights_are_refused(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "its weights cannot be read" in sentence(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no_such_type"}', ""])
def test_a_config_that_says_nothing_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert str(folder) in sentence(folder)


def test_code_in_a_model_folder_never_runs(folder, tmp_path):
    (folder / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_config(
        folder,
        model_type="evil",
        auto_map={k: "modeling_evil.X" for k in ("AutoConfig", "AutoModelForCausalLM")},
    )
    sentence(folder)
    assert not (tmp_path / "ran").exists()


def test_quantised_weights_are_refused_by_method(folder):
    edit_config(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "quantised (bitsandbytes)" in sentence(folder)


def test_a_folder_without_tokenizer_says_so(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in sentence(folder)


def test_an_unsupported_architecture_is_refused_before_its_weights_are_read(tmp_path, monkeypatch):
    config = Gemma2Config(
        vocab_size=53,
        hidden_size=24,
        intermediate_size=31,
        num_hidden_layers=2,
        head_dim=4,
        num_attention_heads=6,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    monkeypatch.setattr(opening, "_weights", None)
    assert "pre_feedforward_layernorm" in sentence(tmp_path / "gemma")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda:63"}, "'cuda:63' is not on this machine"),
        ({"device": "toaster"}, "'toaster' is not on this machine"),
        ({"dtype": "int4"}, "'int4' is not one of auto, float32"),
    ],
)
def test_a_device_or_dtype_that_does_not_exist_is_refused(original, settings, words):
    assert words in sentence(original, **settings)


def test_a_model_too_big_for_memory_is_refused_before_it_is_read(original, monkeypatch):
    model = open_model(original)
    monkeypatch.setattr(opening, "free_bytes", lambda device: model.memory_bytes() // 2 - 1)
    monkeypatch.setattr(opening, "_weights", None)
    assert "needs 0.0 GB and cpu has 0.0 GB free" in sentence(original)


def test_out_of_memory_while_reading_leaves_nothing_behind(original, monkeypatch):
    """The error itself must not keep the half-loaded model alive through its traceback."""
    half_loaded = []

    def failing(*_):
        model = torch.nn.Linear(3, 5)
        half_loaded.append(weakref.ref(model))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 31.00 GiB")

    monkeypatch.setattr(opening, "_weights", failing)
    with pytest.raises(NptVizError, match="needs more GPU memory") as caught:
        open_model(original)
    gc.collect()
    assert caught.value.__context__ is not None
    assert half_loaded[0]() is None


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere.gguf", "a/b/c"])
def test_a_path_to_nothing_is_no_hub_id(name):
    assert "no such file or folder" in sentence(name)


def test_a_hub_id_offline_says_that_offline_mode_forbids_a_download():
    assert "HF_HUB_OFFLINE" in sentence("nobody/no-such-model")


def test_an_alias_that_is_not_here_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("NPT_VIZ_CACHE", str(tmp_path))
    monkeypatch.setattr("npt_viz.model.packaged.cached_snapshot", lambda _: None)
    monkeypatch.setattr("npt_viz.model.packaged._installed_gguf", lambda _: None)
    monkeypatch.setattr("npt_viz.model.packaged.subprocess", None)
    with pytest.raises(ModelNotHereError, match="python -m npt_viz model smollm2-135m"):
        open_model("smollm2-135m")
    assert not any(tmp_path.iterdir())


# GGUF


def write_gguf(path, model, state=None) -> None:
    """The tiny Llama as llama.cpp writes one: float32, rotary rows permuted, a byte-level vocabulary."""
    config, state = model.config, state or model.hf.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    # transformers wants at least one merge, and its result among the tokens.
    tokens = ["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())[:-1], "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * 256)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, tensor in state.items():
        array = tensor.float().numpy()
        for role, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if role in key:
                rows, columns = array.shape
                array = (
                    array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
                )
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, tiny_model())
    return path


def test_a_gguf_computes_what_the_model_it_was_made_from_computes(gguf_file):
    model = open_model(gguf_file)
    torch.testing.assert_close(model.hf(IDS).logits, tiny_model().hf(IDS).logits)
    assert not getattr(model.hf, "is_quantized", False)
    assert model.source == "GGUF file, dequantised"


def test_a_gguf_that_was_opened_can_be_saved(gguf_file, tmp_path):
    open_model(gguf_file).hf.save_pretrained(tmp_path / "dense")
    assert (tmp_path / "dense" / "model.safetensors").exists()


def test_a_gguf_without_some_weight_is_never_filled_with_random_numbers(tmp_path):
    model = tiny_model()
    state = model.hf.state_dict()
    del state["model.layers.2.mlp.up_proj.weight"]
    write_gguf(tmp_path / "lacking.gguf", model, state)
    assert "model.layers.2.mlp.up_proj.weight" in sentence(tmp_path / "lacking.gguf")


def test_a_damaged_gguf_is_refused(gguf_file, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    whole = gguf_file.read_bytes()
    for content, words in (
        (whole[:100], "begins as a GGUF file and cannot be read (100 bytes)"),
        (whole[: len(whole) * 9 // 10], "begins as a GGUF file and cannot be read"),
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04", "is no GGUF file, whatever its name"),
    ):
        damaged.write_bytes(content)
        assert f"damaged.gguf: {words}" in sentence(damaged)


# The real base model, where it is on the machine.


@pytest.fixture(scope="module")
def smollm2():
    try:
        return open_model("smollm2-135m")
    except ModelNotHereError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(smollm2):
    ids = torch.tensor([smollm2.tokenizer("The capital of France is")["input_ids"]])
    p = smollm2.hf(ids).logits[0, -1].softmax(-1)
    assert smollm2.tokenizer.decode(p.argmax()) == " Paris"
    assert p.max().item() == pytest.approx(0.77, abs=0.02)


@pytest.mark.slow
def test_smollm2_is_known_by_the_same_fingerprint_in_either_dtype(smollm2):
    assert open_model("smollm2-135m", dtype="bfloat16").fingerprint([15]) == smollm2.fingerprint([15])


def test_the_alias_of_the_makefile_exists():
    assert set(PACKAGED) == {"smollm2-135m"}


def test_a_gpu_that_is_too_small_shares_the_model_where_the_choice_is_ours(monkeypatch):
    """No GPU is needed: only where the weights would go is decided here."""
    monkeypatch.setattr(opening, "free_bytes", lambda device: 1000)
    gpu = torch.device("cuda")
    assert opening._placement("m", 999, gpu, is_choice=True) == gpu
    assert opening._placement("m", 1001, gpu, is_choice=True) == "auto"
    with pytest.raises(NptVizError, match="use device='map'"):
        opening._placement("m", 1001, gpu, is_choice=False)


def test_tied_weights_are_counted_once():
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=24,
        intermediate_size=31,
        num_hidden_layers=1,
        num_attention_heads=6,
        tie_word_embeddings=True,
    )
    skeleton = opening._skeleton("m", config)[0]
    assert sum(p.numel() for p in skeleton.parameters()) == 258 * 24 + 4 * 24 * 24 + 3 * 24 * 31 + 3 * 24

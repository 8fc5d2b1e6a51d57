"""Exports, opened by the tools they are for: peft, transformers, and a ledger."""

import json
import os
import resource
import shutil
import signal
import time
import warnings

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model
from huggingface_hub.repocard import metadata_load
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from npt_viz import open_model
from npt_viz.capture.running import changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.files import merging, shards
from npt_viz.editing.files.card import BASES_CARD
from npt_viz.editing.files.recipe import RECIPE_FILE, recipe_text, updates_from_recipe, updates_from_text
from npt_viz.editing.ledger import Ledger
from npt_viz.editing.making.from_source import update_from
from npt_viz.editing.updates import sum_of
from npt_viz.errors import NptVizError

IDS = torch.tensor([[0, 72, 103, 31, 31, 200, 5]])
KINDS = ("lora", "merged", "recipe")


def edited(model, variant="N5"):
    """A ledger of two edits: one of both layers, one of the second again."""
    adapters = {layer: specimen(model, variant, layer, seed=layer) for layer in (1, 3)}
    npt = Checkpoint.from_adapters(adapters, model, "specimen")
    ledger = Ledger(model)
    ledger.apply(update_from(model, npt, "one of them", layer=[1, 3], alpha=0.7))
    ledger.apply(update_from(model, npt, "and another", layer=3, token=2, alpha=-0.4))
    return ledger


def logits(ledger):
    with changed(ledger.model, [ledger.lane()]):
        return ledger.model.hf(IDS).logits


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A base model on disk, in several shards."""
    folder, model = tmp_path_factory.mktemp("base"), tiny_model()
    model.hf.save_pretrained(folder, max_shard_size="30KB")
    model.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("kept")
    return folder


@pytest.mark.parametrize("variant", ["N1", "N4", "N5", "T1", "S0"])
def test_peft_loads_the_lora_export_to_the_same_logits(tiny_llama, tmp_path, variant):
    from peft import PeftModel

    ledger = edited(tiny_llama, variant)
    ledger.export(tmp_path / "lora", "lora")
    base = tiny_model().hf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft looks for the base's config on the hub.
        found = PeftModel.from_pretrained(base, tmp_path / "lora")(IDS).logits
    torch.testing.assert_close(found, logits(ledger), rtol=0, atol=1e-4)
    assert (found - tiny_llama.hf(IDS).logits).abs().max() > 1e-2


def test_the_rank_of_a_lora_is_its_number_of_factors(tiny_llama, tmp_path):
    edited(tiny_llama, "N4").export(tmp_path / "lora", "lora")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if "gate" in name}
    name = "base_model.model.model.layers.{}.mlp.gate_proj.lora_{}.weight"
    assert shapes == {
        name.format(1, "A"): (3, 24),
        name.format(1, "B"): (31, 3),
        name.format(3, "A"): (6, 24),
        name.format(3, "B"): (31, 6),
    }


@pytest.mark.parametrize("variant", ["N1", "N5", "T1"])
def test_the_merged_export_is_the_previewed_model_in_plain_transformers(base_folder, tmp_path, variant):
    ledger = edited(open_model(base_folder), variant)
    exported = ledger.export(tmp_path / "merged", "merged")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(IDS).logits
    torch.testing.assert_close(found, logits(ledger), rtol=0, atol=1e-4)
    assert (found - ledger.model.hf(IDS).logits).abs().max() > 1e-2
    assert exported.folder == tmp_path / "merged"
    assert "reloaded with transformers" in exported.notes[1]
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("abc") == ledger.model.tokenizer("abc")


def test_a_merged_export_keeps_the_shards_and_every_other_tensors_bytes(base_folder, tmp_path):
    ledger = edited(open_model(base_folder), "N4")
    ledger.export(tmp_path / "merged", "merged")
    files = {path.name for path in base_folder.iterdir()}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == files | {RECIPE_FILE, BASES_CARD}
    assert sum(name.endswith(".safetensors") for name in files) > 3
    touched = {place.parameter for update in ledger.updates for place in update.places}
    for shard in base_folder.glob("*.safetensors"):
        before, after = load_file(shard), load_file(tmp_path / "merged" / shard.name)
        assert list(before) == list(after)
        for name in before:
            assert torch.equal(before[name], after[name]) == (name not in touched)
        with safe_open(shard, "pt") as old, safe_open(tmp_path / "merged" / shard.name, "pt") as new:
            assert old.metadata() == new.metadata()


def test_weights_that_lie_there_a_second_time_are_not_taken_along(base_folder, tmp_path):
    """Some hub repositories hold them again for other tools; a copy would be the model without the edit."""
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    for name in ("consolidated.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"):
        (folder / name).write_bytes(b"{}")
    edited(open_model(folder), "N1").export(tmp_path / "merged", "merged")
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert names == {path.name for path in base_folder.iterdir()} | {RECIPE_FILE, BASES_CARD}


def test_an_edited_weight_is_computed_in_float32_and_stored_in_the_dtype_of_the_open_model(tmp_path):
    half = tiny_model(dtype=torch.bfloat16)
    half.hf.save_pretrained(tmp_path / "half")
    half.tokenizer.save_pretrained(tmp_path / "half")
    name = "model.layers.3.mlp.up_proj.weight"
    for dtype in (torch.bfloat16, torch.float32):
        ledger = edited(open_model(tmp_path / "half", dtype=dtype), "N4")
        ledger.export(tmp_path / str(dtype), "merged")
        found = load_file(tmp_path / str(dtype) / "model.safetensors")
        total = sum(
            u.alpha * parts.v_b.astype(np.float64).T @ parts.v_a
            for u in ledger.updates
            for place, parts in u.factors.items()
            if place.parameter == name
        )
        expected = (half.hf.get_parameter(name).double() + torch.from_numpy(total)).to(dtype)
        assert found[name].dtype == dtype
        # A float32 sum may round to the other side of a bf16 step now and then.
        assert (found[name] == expected).float().mean() > (0.99 if dtype == torch.bfloat16 else 0.3)
        torch.testing.assert_close(
            found[name], expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6
        )
        assert found["model.layers.3.mlp.down_proj.weight"].dtype == torch.bfloat16


def test_a_model_without_files_is_merged_from_memory(tiny_llama, tmp_path):
    ledger = edited(tiny_llama)
    ledger.export(tmp_path / "merged", "merged")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(IDS).logits
    torch.testing.assert_close(found, logits(ledger), rtol=0, atol=1e-4)


def test_a_base_whose_files_changed_since_is_not_merged(base_folder, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    ledger = edited(open_model(folder), "N1")
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            names = [name for name in file.keys() if name == "model.layers.3.mlp.gate_proj.weight"]  # noqa: SIM118
        if names:
            shards.rewrite_shard(shard, tmp_path / "new", {names[0]: torch.zeros(31, 24)})
            (tmp_path / "new").replace(shard)
    with pytest.raises(NptVizError, match="the files changed since: open the model again"):
        ledger.export(tmp_path / "merged", "merged")
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_computes_something_else_is_not_exported(base_folder, tmp_path, monkeypatch):
    ledger = edited(open_model(base_folder), "N1")
    monkeypatch.setattr(merging, "edited_weight", lambda weight, factors, dtype: weight + 0.1)
    with pytest.raises(NptVizError, match="does not compute what was previewed"):
        ledger.export(tmp_path / "merged", "merged")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_in_every_export_makes_the_ledger_again_bit_for_bit(tiny_llama, tmp_path, kind):
    ledger, again = edited(tiny_llama), Ledger(tiny_llama)
    ledger.export(tmp_path / "out", kind)
    again.apply_all(updates_from_recipe(tmp_path / "out", tiny_llama))
    assert torch.equal(logits(again), logits(ledger))
    assert [u.digest() for u in again.updates] == [u.digest() for u in ledger.updates]
    assert [u.origins for u in again.updates] == [u.origins for u in ledger.updates]
    assert [u.base for u in again.updates] == [u.base for u in ledger.updates]


def test_a_recipe_is_refused_for_another_base_or_checkpoint(tiny_llama, tmp_path):
    edited(tiny_llama, "N4").export(tmp_path / "out", "recipe")
    stranger = tiny_model()
    stranger.parts(1).down.weight.add_(0.3)
    with pytest.raises(
        NptVizError, match=r"edit 1: the update was made on another base model: layer 1 of tiny"
    ):
        updates_from_recipe(tmp_path / "out", stranger)
    same, other = (
        Checkpoint.from_adapters(
            {k: specimen(tiny_llama, "N4", k, seed=k + i) for k in (1, 3)}, tiny_llama, f"c{i}"
        )
        for i in (0, 1)
    )
    assert len(updates_from_recipe(tmp_path / "out", tiny_llama, same)) == 2
    with pytest.raises(NptVizError, match="c1 is not it; open that checkpoint"):
        updates_from_recipe(tmp_path / "out", tiny_llama, other)


def test_a_sum_of_parts_from_two_checkpoints_is_the_edit_of_neither(tiny_llama):
    mine, other = (
        Checkpoint.from_adapters({1: specimen(tiny_llama, "N4", 1, seed=seed)}, tiny_llama, f"c{seed}")
        for seed in (1, 2)
    )
    parts = [update_from(tiny_llama, npt, "one of them", layer=1) for npt in (mine, other)]
    text = recipe_text(tiny_llama, [sum_of(parts)])
    for npt, reason in ((mine, "made with the checkpoint c2 .* c1 is not it"), (other, "c2 is not it")):
        with pytest.raises(NptVizError, match=reason):
            updates_from_text(text, "edits.json", tiny_llama, npt)
    (whole,) = updates_from_text(recipe_text(tiny_llama, [parts[0] + parts[0]]), "it", tiny_llama, mine)
    assert [origin.checkpoint for origin in whole.origins] == ["c1", "c1"]


def edit_by_hand(text, how):
    content = json.loads(text)
    how(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is no JSON"),
        (lambda text: "[]", "is no recipe of npt_viz"),
        (lambda text: text.replace('"alpha": 0.7', '"alpha": 7.0'), "was changed after it was saved"),
        (lambda text: edit_by_hand(text, lambda c: c["edits"].pop()), "was changed after it was saved"),
        (lambda text: edit_by_hand(text, lambda c: c.pop("seal")), "was changed after it was saved"),
        (lambda text: edit_by_hand(text, lambda c: c.update(format_version=2)), "format_version is 2"),
    ],
)
def test_a_recipe_edited_by_hand_is_refused_in_a_sentence(tiny_llama, tmp_path, damage, message):
    edited(tiny_llama).export(tmp_path / "out", "recipe")
    path = tmp_path / "out" / RECIPE_FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(NptVizError, match=message) as caught:
        updates_from_recipe(path, tiny_llama)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there_is_a_sentence(tiny_llama, tmp_path):
    with pytest.raises(NptVizError, match="no such file or folder; give a recipe file"):
        updates_from_recipe(tmp_path / "none.json", tiny_llama)
    (tmp_path / "latin.json").write_bytes('"é"'.encode("latin-1"))
    with pytest.raises(NptVizError, match=r"latin.json cannot be read as UTF-8 .*; save it as UTF-8"):
        updates_from_recipe(tmp_path / "latin.json", tiny_llama)


@pytest.mark.parametrize("kind", KINDS)
def test_what_exists_is_not_overwritten(tiny_llama, tmp_path, kind):
    (tmp_path / "taken").mkdir()
    with pytest.raises(NptVizError, match="exists already"):
        edited(tiny_llama).export(tmp_path / "taken", kind)
    assert list((tmp_path / "taken").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_half_way_leaves_nothing(base_folder, tmp_path, kind):
    """A real write fails in the middle of the largest file; the smaller ones were written by then or never are."""
    ledger = edited(open_model(base_folder), "N1")
    ledger.export(tmp_path / "whole", kind)
    largest = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    shutil.rmtree(tmp_path / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, limits[1]))
    try:
        with pytest.raises(NptVizError, match=r"out: cannot be written .*nothing is left"):
            ledger.export(tmp_path / "out", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert len(ledger) == 2


def test_a_disk_that_fills_up_at_the_tokenizer_leaves_nothing(tmp_path, monkeypatch):
    """On a full disk the Rust tokenizers raise a bare Exception (seen on a tmpfs of 400 kB)."""
    ledger = edited(tiny_model(), "N1")

    def full(folder):
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(ledger.model.tokenizer, "save_pretrained", full)
    with pytest.raises(NptVizError, match=r"out: cannot be written .*No space left .*nothing is left"):
        ledger.export(tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_merged_model_is_refused_before_writing(
    tiny_llama, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(NptVizError, match=r"its disk has 0\.0 GB free"):
        edited(tiny_llama).export(tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be_made_is_a_sentence(tiny_llama, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NptVizError, match="cannot be written"):
        edited(tiny_llama).export(tmp_path / "file" / "out", "recipe")


def test_an_empty_ledger_and_an_unknown_kind_are_sentences(tiny_llama, tmp_path):
    with pytest.raises(NptVizError, match="the ledger is empty"):
        Ledger(tiny_llama).export(tmp_path / "out", "lora")
    with pytest.raises(NptVizError, match="choose one of lora, merged, recipe"):
        edited(tiny_llama).export(tmp_path / "out", "gguf")


@pytest.mark.slow
def test_killing_an_export_at_any_moment_leaves_no_folder_that_looks_complete_and_is_not(
    base_folder, tmp_path
):
    ledger, outcomes = edited(open_model(base_folder), "N1"), {"absent": 0, "whole": 0}
    whole, seconds = {}, {}

    def exporting(folder, kind):
        child = os.fork()
        if child == 0:
            try:
                ledger.export(folder, kind)
            finally:
                os._exit(0)
        return child

    for kind in KINDS:
        start = time.perf_counter()
        os.waitpid(exporting(tmp_path / "whole" / kind, kind), 0)
        seconds[kind] = time.perf_counter() - start
        whole[kind] = contents(tmp_path / "whole" / kind)
    delays = np.random.default_rng(0)
    for i in range(102):
        kind = KINDS[i % 3]
        folder = tmp_path / str(i % 5) / kind  # A card has the folder's name.
        child = exporting(folder, kind)
        time.sleep(delays.uniform(0, 1.5 * seconds[kind]))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        outcomes["whole" if folder.exists() else "absent"] += 1
        if folder.exists():
            assert contents(folder) == whole[kind]
            shutil.rmtree(folder)
    assert min(outcomes.values()) >= 10, outcomes
    for i in range(5):  # Whoever exports next clears what was left behind.
        ledger.export(tmp_path / "out" / str(i), "recipe")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set("01234")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_has_a_card_of_its_edits_and_warns(base_folder, tmp_path, kind):
    ledger = edited(open_model(base_folder))
    ledger.export(tmp_path / "out", kind)
    card, kept = tmp_path / "out" / "README.md", tmp_path / "out" / BASES_CARD
    assert card.exists() == (kind != "recipe") and kept.exists() == (kind == "merged")
    if kind == "recipe":
        return
    assert metadata_load(card)["library_name"] == {"lora": "peft", "merged": "transformers"}[kind]
    text = card.read_text()
    assert str(base_folder.parent) not in text and "every token of every text" in text
    assert "one of them" in text and "and another" in text and "specimen" in text
    for number, update in enumerate(ledger.updates, 1):
        for place, factors in update.factors.items():
            dense = update.alpha * factors.v_b.astype(float).T @ factors.v_a.astype(float)
            size = f"{np.linalg.norm(dense):.4g}"
            assert f"| {number} | {update.alpha:.4g} | {place.parameter} | {len(factors)} | {size} |" in text
    if kind == "merged":
        assert kept.read_text() == "kept"

"""Inputs that cannot be taken as they are, and the sentence that each gets: the table of docs/errors.md.

`PYTHONPATH=.:tests python tests/wrong_inputs.py` writes the table from fresh runs.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from conftest import specimen, tiny_model
from handmade import format_a
from huggingface_hub import constants
from transformers.utils import logging

import npt_viz
from npt_viz.checkpoint import Checkpoint, save_checkpoint
from npt_viz.editing.cases import cases_from_file
from npt_viz.editing.files.recipe import updates_from_recipe
from npt_viz.editing.making.history import updates_from_history
from npt_viz.errors import NptVizError
from npt_viz.experiments.reading import read_experiment
from npt_viz.experiments.spec_file import read_experiment_spec
from npt_viz.files import write_whole
from npt_viz.model import memory
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.places import typed_path
from npt_viz.runs import logs_of, read_run
from npt_viz.texts import texts_from_file
from npt_viz.training.data import corpus_of

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
COMMIT = "4ff0cc54e6e1bf2f6d0cfcf58b3a5bbb5b6bcbe7"
HUB_ID = "someone/tiny"


@cache
def folder() -> Path:
    """A model folder and all that the rows write; deleted at exit."""
    home = Path(tempfile.mkdtemp(prefix="npt_viz-wrong-"))
    import atexit

    atexit.register(shutil.rmtree, home, ignore_errors=True)
    model = tiny_model(2)
    logging.disable_progress_bar()
    model.hf.save_pretrained(home / "model")
    model.tokenizer.save_pretrained(home / "model")
    return home


def copied(name: str) -> Path:
    """A copy of the model folder to damage."""
    return shutil.copytree(folder() / "model", folder() / name, dirs_exist_ok=True)


@cache
def model() -> BaseModel:
    return npt_viz.open_model(folder() / "model", device="cpu")


@cache
def checkpoint() -> Checkpoint:
    adapters = {1: specimen(model(), "N4", 1)}
    return Checkpoint.from_adapters(adapters, model(), "specimen")


def ledger():
    edits = npt_viz.Ledger(model())
    edits.apply(npt_viz.update_from(model(), checkpoint(), "abc", layer=1))
    return edits


# ---- paths: every place that takes one

READERS: dict[str, Callable[[str], object]] = {
    "base model": lambda path: npt_viz.open_model(path),
    "checkpoint": lambda path: npt_viz.open_checkpoint(path, model()),
    "texts": texts_from_file,
    "facts": cases_from_file,
    "recipe": lambda path: updates_from_recipe(path, model()),
    "injection history": lambda path: updates_from_history(path, model(), checkpoint()),
    "log": read_run,
    "experiment": read_experiment,
    "experiment's spec": read_experiment_spec,
    "log's folder": lambda path: logs_of(typed_path(path)),
}
WRITERS: dict[str, Callable[[str], object]] = {
    "export": lambda path: ledger().export(path, "lora"),
    "converted checkpoint": lambda path: save_checkpoint(
        path, {1: checkpoint().adapter(1)}, model(), recipe={}, figures={}, licence="none"
    ),
    "any file": lambda path: write_whole(path, "x"),
}


def with_template(name: str, template: object) -> Callable[[], object]:
    def run() -> object:
        where = copied(name)
        for old in where.glob("chat_template*"):
            old.unlink()
        settings = json.loads((where / "tokenizer_config.json").read_text())
        (where / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
        return encode(npt_viz.open_model(where), "hello", chat=True)

    return run


def with_attention(name: str, **config: str) -> Callable[[], object]:
    def run() -> object:
        where = copied(name)
        settings = json.loads((where / "config.json").read_text())
        (where / "config.json").write_text(json.dumps(settings | config))
        opened = npt_viz.open_model(where, device="cpu")
        assert torch.isfinite(opened.hf(torch.tensor([[3, 5]])).logits).all()
        return f"opens; {opened.notes[0]}"

    return run


def more_tokens() -> BaseModel:
    where = copied("more-tokens")
    opened = npt_viz.open_model(where)
    opened.tokenizer.add_tokens(["<new>"])
    opened.tokenizer.save_pretrained(where)
    return npt_viz.open_model(where)


# ---- the hub's cache


def cached(change: Callable[[Path], object], name: str = HUB_ID) -> Callable[[], object]:
    """Open a hub id from a cache in which one snapshot lies, changed. change: takes the snapshot."""

    def run() -> object:
        cache_home = Path(tempfile.mkdtemp(dir=folder()))
        home = cache_home / "models--someone--tiny"
        snapshot = home / "snapshots" / COMMIT
        shutil.copytree(folder() / "model", snapshot)
        (home / "refs").mkdir()
        (home / "blobs").mkdir()
        (home / "refs" / "main").write_text(COMMIT)
        change(snapshot)
        with (
            patch.object(constants, "HF_HUB_CACHE", str(cache_home)),
            patch.object(constants, "HF_HUB_OFFLINE", True),
        ):
            return f"opens from the {npt_viz.open_model(name).source}"

    return run


def half(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    (snapshot.parents[1] / "blobs" / "77aa.incomplete").write_bytes(b"x")


def dangling(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../blobs/77aa")


def pickled(snapshot: Path) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")


def other_revision(snapshot: Path) -> None:
    refs = snapshot.parents[1] / "refs"
    (refs / "main").rename(refs / "step-500")


def sharded(snapshot: Path) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def tokenizer_pointer():
    at = copied("tokenizer-pointer")
    (at / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return npt_viz.open_model(at)


def pointer() -> object:
    where = copied("pointer")
    (where / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    return npt_viz.open_model(where)


# ---- memory


def scarce(run: Callable[[], object], free: int = 2**26) -> Callable[[], object]:
    """As on a machine with that many bytes free."""

    def on_it() -> object:
        with patch.object(memory, "free_bytes", lambda device: free), patch.object(memory, "SMALL", 0):
            return run()

    return on_it


def of_high_rank() -> object:
    path = folder() / "high-rank.pt"
    torch.save(format_a(1, rank=20_000), path)
    opened = npt_viz.open_checkpoint(path)
    return opened.adapter(1)


def long_text() -> object:
    return npt_viz.inspect(model(), checkpoint(), "abc" * 30)


def torch_refuses() -> object:
    """A real allocation that no machine grants."""
    with memory.out_of_memory_explained("this inspection", "shorten the prompt"):
        return torch.empty(2**55, dtype=torch.uint8)


Row = tuple[str, str, Callable[[], object]]


def path_rows() -> list[Row]:
    readers = {**READERS, **WRITERS}
    wrong = {
        "`~nobody_x/a`": lambda take: take("~nobody_x/a"),
        "a name of 3,000 characters": lambda take: take("x" * 3000),
        "a path of 5,000 characters": lambda take: take("/".join(["abcdefghi"] * 500)),
        "a NUL character in a path": lambda take: take("a\0b"),
        "blanks for a path": lambda take: take("  "),
    }
    only_read = {
        "`/dev/null`": lambda take: take("/dev/null"),
        "a web address": lambda take: take("https://huggingface.co/someone/tiny"),
        "a link to nothing": lambda take: take(str(link_to_nothing())),
    }
    opened = {"a NumPy archive": lambda take: take(str(numpy_archive()))}
    open_it = {where: take for where, take in READERS.items() if where != "log's folder"}
    return [
        (words, where, lambda give=give, take=take: give(take))
        for wrongs, takers in ((wrong, readers), (only_read, READERS), (opened, open_it))
        for words, give in wrongs.items()
        for where, take in takers.items()
    ]


def link_to_nothing() -> Path:
    link = folder() / "link"
    if not link.is_symlink():
        link.symlink_to(folder() / "gone")
    return link


def numpy_archive() -> Path:
    np.savez(folder() / "weights.npz", W_down=np.ones(3))
    return folder() / "weights.npz"


def rows() -> list[Row]:
    """(input, where it enters, what to run)."""
    at_home = str(folder() / "model")
    return [
        *path_rows(),
        ("a name of 300 characters", "export", lambda: ledger().export("n" * 300, "lora")),
        ("a Git LFS pointer for the tokenizer", "base model", tokenizer_pointer),
        (
            "a blank behind the path",
            "base model",
            lambda: f"opens from a {npt_viz.open_model(at_home + ' ').source}",
        ),
        (
            "quotes around the path",
            "base model",
            lambda: f"opens from a {npt_viz.open_model(repr(at_home)).source}",
        ),
        ("a hub id that is not in the cache", "base model", cached(lambda _: None, "nobody/none")),
        ("a hub id in the cache", "base model", cached(lambda _: None)),
        ("owner/name@revision in the cache", "base model", cached(other_revision, f"{HUB_ID}@step-500")),
        ("owner/name@commit in the cache", "base model", cached(lambda _: None, f"{HUB_ID}@{COMMIT[:9]}")),
        ("another revision in the cache", "base model", cached(other_revision)),
        ("a revision that is not in the cache", "base model", cached(lambda _: None, f"{HUB_ID}@v2")),
        ("owner/name@ without a revision", "base model", cached(lambda _: None, f"{HUB_ID}@")),
        ("half a download in the cache", "base model", cached(half)),
        ("a dangling link in the cache", "base model", cached(dangling)),
        ("only a .bin in the cache", "base model", cached(pickled)),
        ("one shard of two in the cache", "base model", cached(sharded)),
        ("no config in the cache", "base model", cached(lambda s: (s / "config.json").unlink())),
        ("no tokenizer in the cache", "base model", cached(lambda s: (s / "tokenizer.json").unlink())),
        ("a Git LFS pointer for weights", "base model", pointer),
        (
            "flash_attention_2 in config.json",
            "base model",
            with_attention("flash", attn_implementation="flash_attention_2"),
        ),
        (
            "the same under _attn_implementation",
            "base model",
            with_attention("flash_", _attn_implementation="flash_attention_2"),
        ),
        (
            "an attention that nobody knows",
            "base model",
            with_attention("paged", attn_implementation="kernels-community/x"),
        ),
        (
            "device cuda:9 where there is none",
            "base model",
            lambda: npt_viz.open_model(at_home, device="cuda:9"),
        ),
        ("device meta", "base model", lambda: npt_viz.open_model(at_home, device="meta")),
        ("device gpu", "base model", lambda: npt_viz.open_model(at_home, device="gpu")),
        (
            "a device map with meta in it",
            "base model",
            lambda: npt_viz.open_model(at_home, device={"": "meta"}),
        ),
        ("no chat template", "chat", lambda: encode(model(), "hello", chat=True)),
        (
            "named chat templates without default",
            "chat",
            with_template(
                "named", [{"name": n, "template": "{{messages[0].content}}"} for n in ("rag", "tool_use")]
            ),
        ),
        (
            "a chat template that refuses the turn",
            "chat",
            with_template("refusing", "{{ raise_exception('System message required') }}"),
        ),
        (
            "a chat template with a syntax error",
            "chat",
            with_template("syntax", "{% for m in messages %}{{ m.content }"),
        ),
        (
            "a chat template with an unknown filter",
            "chat",
            with_template("filter", "{{ messages[0].content | shout }}"),
        ),
        (
            "a chat template that fails in Python",
            "chat",
            with_template("failing", "{{ messages[0].content + 3 }}"),
        ),
        ("a chat template that drops the text", "chat", with_template("dropping", "user: ")),
        ("a text with a token beyond the embedding", "prompt", lambda: encode(more_tokens(), "a <new> b")),
        (
            "the same in a training text",
            "training",
            lambda: corpus_of(more_tokens(), ["a <new> b"] * 9),
        ),
        ("token ids beyond the embedding", "prompt", lambda: encode(model(), [3, 258])),
        ("an adapter of rank 20,000", "checkpoint", scarce(of_high_rank, 2**31)),
        ("more tokens than fit", "inspection", scarce(long_text, 2**10)),
        ("an allocation that fails", "anything", torch_refuses),
    ]


def said(run: Callable[[], object]) -> str:
    """The sentence of a row, without what differs from machine to machine."""
    try:
        sentence = run()
    except NptVizError as error:
        sentence = str(error)
    assert isinstance(sentence, str), f"neither a sentence nor what it opens as: {sentence!r}"
    home = re.escape(str(folder()))
    sentence = re.sub(rf"{home}(/tmp\w+)?", "…", sentence)
    sentence = re.sub(r"choose cpu, (cuda|mps), ", "choose cpu, ", sentence)
    return re.sub(r"[\d.]+ [GM]B free", "N GB free", sentence)


def tabled() -> list[str]:
    """Rows of the table; places that say the same share one."""
    places: dict[tuple[str, str], list[str]] = {}
    for words, where, run in rows():
        places.setdefault((words, said(run)), []).append(where)
    lines = ["| input | given as | what is said |", "|---|---|---|"]
    for (words, sentence), where in places.items():
        lines.append(f"| {words} | {', '.join(where)} | {cell(sentence)} |")
    return lines


def cell(sentence: str) -> str:
    """A sentence as a cell of a table."""
    return sentence.replace("|", "\\|").replace("<", "&lt;")


def document(text: str) -> str:
    """docs/errors.md with its table from fresh runs."""
    begin, end = "<!-- inputs -->\n", "\n<!-- end inputs -->"
    table = "\n".join(tabled())
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + table + end, text, flags=re.S)


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("\n".join(tabled()) + "\n")

"""What a file or folder is, told by its first bytes and its name. Reads a few bytes and runs nothing."""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

LFS_POINTER = b"version https://git-"
"""How a Git LFS pointer begins."""


GGUF = b"GGUF"
"""How a GGUF file begins."""


class Kind(NamedTuple):
    """What a file is that cannot be opened as weights, and what to do with it."""

    words: str
    """A noun phrase: 'a training log'."""
    advice: str = ""
    """What it is for; empty where only the weights beside it can be meant."""


_NAMED = {
    r"training_state.*\.pt": Kind("the state of a training (optimiser and step), which is never needed here"),
    r"training_info\.pt": Kind("the record of a training's settings, without weights"),
    r"multi_layer_state\.pt": Kind(
        "the record of a multi-layer training's loss weights and step, without adapters"
    ),
    r"(optimizer|scheduler|scaler)\.(pt|bin)|rng_state.*\.pth": Kind("the optimiser's part of a training"),
    r"training_args\.bin": Kind("the record of a training's settings, which only its code can load"),
    r"training_log.*\.jsonl|.*\.jsonl": Kind("a training log", "the Runs page and `npt-viz runs` read it"),
    r"injection_history.*\.json": Kind(
        "the history of permanent edits", "Permanent update replays it on the checkpoint that made it"
    ),
    r"adapter_config\.json": Kind("the config of a LoRA adapter, which is no NPT checkpoint"),
    r"eval_metrics.*\.json": Kind("the record of an evaluation"),
    r"training_metadata\.json|trainer_state\.json": Kind("the record of a training"),
    r"(tokenizer|special_tokens|vocab|generation_config|added_tokens).*\.json": Kind(
        "a part of a base model's folder"
    ),
    r".*config\.json": Kind("a config, without weights"),
    r".*\.index\.json": Kind("the index of a sharded checkpoint"),
    r".*\.json": Kind("a JSON file, without weights"),
    r".*\.(txt|md|csv|log|ya?ml|toml|html?|py|ipynb)": Kind("a text file"),
}
"""File name -> what it is; the first that fits."""

_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
"""First bytes -> kind of archive."""

_UNPACK = "unpack it and open the folder that comes out"


def damage_of(file: Path) -> Kind | None:
    """What stands in the place of a file's content: nothing, or a pointer to it; None where the content is there."""
    if file.stat().st_size == 0:
        return Kind("an empty file", "copy or download it again")
    if begins_with(file, LFS_POINTER):
        return Kind("a Git LFS pointer, not the file itself", "run `git lfs pull` where it was cloned")
    return None


def begins_with(file: Path, start: bytes) -> bool:
    """Whether these are the first bytes of a file."""
    with file.open("rb") as opened:
        return opened.read(len(start)) == start


def file_kind(file: Path) -> Kind | None:
    """What a file is that holds no adapter; None where it may hold one. Raises OSError where it cannot be read."""
    if (damage := damage_of(file)) is not None:
        return damage
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.startswith(GGUF):
        return Kind("a GGUF file, which holds a base model", "give it as the base model")
    if start.startswith(b"PK\x03\x04"):
        return _zip_kind(file) or _named(file)
    for magic, archive in _ARCHIVES.items():
        if start.startswith(magic):
            return Kind(f"a {archive} archive", _UNPACK)
    if start[257:262] == b"ustar":
        return Kind("a tar archive", _UNPACK)
    return _named(file)


def _named(file: Path) -> Kind | None:
    return next((kind for pattern, kind in _NAMED.items() if re.fullmatch(pattern, file.name)), None)


def _zip_kind(file: Path) -> Kind | None:
    """None for what torch.save writes, which is a zip with a data.pkl, and for a damaged one."""
    try:
        names = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    if any(name.endswith("data.pkl") for name in names):
        return None
    files = sorted(name for name in names if not name.endswith("/"))
    return Kind(f"a zip archive of {len(files)} files ({', '.join(files[:3])})", _UNPACK)

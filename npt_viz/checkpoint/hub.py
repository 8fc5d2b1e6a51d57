"""Checkpoints on the Hugging Face hub: which files of a repository are fetched, and where they lie afterwards."""

import re
from pathlib import Path

from huggingface_hub import constants

from npt_viz.checkpoint.finding import weights_at
from npt_viz.errors import NptVizError
from npt_viz.model.hub import cache_state, cached_folder, fetched, parsed_hub_id
from npt_viz.places import absent, shown

FILES = ["*.json", "*.safetensors", "*.pt", "*.pth", "*.bin", "README.md"]
"""Files that are downloaded: weights and configs, no code; what is in a pickle is never run."""

NEVER_READ = ["*training_state*", "*optimizer*", "*scheduler*", "*rng_state*", "*training_args*"]
"""Files beside the weights of a training that can be large and are of no use here."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]*)?")
_IN_THE_CACHE = re.compile(r"models--(.+?)--(.+)")


def is_hub_id(path: Path) -> bool:
    """Whether a path at which nothing is may be a repository on the hub: owner/name, and no folder is called owner."""
    owner = path.parts[0] if path.parts else ""
    return bool(_HUB_ID.fullmatch(path.as_posix())) and owner not in (".", "..") and not Path(owner).exists()


def hub_folder(name: str) -> Path:
    """The folder of owner/name or owner/name@revision: the copy in the hub's cache, else downloaded.

    Raises NptVizError where it is not there and HF_HUB_OFFLINE forbids a download, and where the hub does not give it.
    """
    hub_id, revision = parsed_hub_id(name)
    cached = cached_folder(hub_id, revision)
    fault = None if cached is None else _fault(cached)
    if cached is not None and fault is None:
        return cached
    state = fault or f"it is {cache_state(hub_id, revision)}"
    if constants.HF_HUB_OFFLINE:
        raise NptVizError(
            f"{shown(name)}: {absent(Path(name))}; as a hub id: {state}, and HF_HUB_OFFLINE forbids a download: unset it, "
            "or give a checkpoint file or its folder"
        )
    unreachable = (f"{state}, and the hub cannot be reached", "check the network, or give a file or folder")
    folder = fetched(hub_id, revision, FILES, NEVER_READ, unreachable=unreachable, kinds="a file, a folder")
    if (fault := _fault(folder)) is not None:
        raise NptVizError(f"{shown(name)} cannot be opened: its repository holds no NPT checkpoint ({fault})")
    return folder


def name_on_hub(path: Path) -> str | None:
    """owner/name and what is inside it, of a path in the hub's cache; None of any other."""
    for place, part in enumerate(path.parts[:-2]):
        if (repository := _IN_THE_CACHE.fullmatch(part)) and path.parts[place + 1] == "snapshots":
            return "/".join([*repository.groups(), *path.parts[place + 3 :]])
    return None


def _fault(folder: Path) -> str | None:
    """Why a snapshot is no whole checkpoint."""
    try:
        weights_at(folder)
    except NptVizError as error:
        return str(error).replace(f"{folder}: ", "").replace(str(folder), "its copy in the hub's cache")
    return None

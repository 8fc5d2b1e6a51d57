"""Hugging Face hub models: the copy on this machine, or a download where the network is allowed."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id

from npt_viz.errors import NptVizError
from npt_viz.identity import damage_of
from npt_viz.places import shown
from npt_viz.progress import Progress, no_progress

FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
"""Files that are downloaded: no Python code, no pickle."""

MAIN = "main"
"""The revision of a hub model that is meant where none is named."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Files that hold a tokenizer, each alone."""


class Located(NamedTuple):
    """Files of a model on this machine."""

    path: Path
    """A folder with config.json and safetensors, or a .gguf file."""
    source: str
    """Where it comes from, in words."""

    @property
    def is_gguf(self) -> bool:
        """Whether the files are one .gguf file."""
        return self.path.suffix == ".gguf"


def parsed_hub_id(name: str) -> tuple[str, str]:
    """(hub id, revision) of `owner/name` or `owner/name@revision`; the revision is main by default."""
    hub_id, _, revision = name.partition("@")
    if "@" in name and not revision:
        raise NptVizError(
            f"{name}: no revision stands behind the @; write owner/name@revision, or owner/name"
        )
    return hub_id, revision or MAIN


def cached_snapshot(hub_id: str, revision: str = MAIN) -> Path | None:
    """The folder of a hub model that is wholly in the local cache; touches no network."""
    folder = cached_folder(hub_id, revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZERS)
    return folder if has_tokenizer and not weights_fault(folder) else None


def weights_fault(folder: Path) -> str | None:
    """What is wrong with the weights of a model folder, and what to do; None where all of them are there."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return f"its {index.name} is not readable, which lists the shards; copy or fetch it again"
    missing = [name for name in names if not (folder / name).is_file()]
    for name in names:
        if name not in missing and (damage := damage_of(folder / name)) is not None:
            return f"{name} is {damage.words}; {damage.advice}"
    if not missing:
        return None
    if (folder / missing[0]).is_symlink():
        return (
            f"{missing[0]} is a link to {os.readlink(folder / missing[0])}, which is not there; copy or fetch the file "
            "itself"
        )
    if _has_only_pickles(folder):
        pickle = min(path.name for path in folder.glob("pytorch_model*.bin"))
        return (
            f"its weights are {pickle}, a pickle; npt_viz reads the base model from safetensors only: load it "
            "with transformers and save it again with save_pretrained"
        )
    of_all = f" ({len(missing)} of {len(names)} shards are missing)" if len(names) > 1 else ""
    return (
        f"lacks {missing[0]}{of_all}; npt_viz reads weights from safetensors only: copy the missing file, or save the "
        "model again with save_pretrained"
    )


DAMAGED = "damaged in the hub's cache on this machine"
NOT_WHOLE = "not whole in the hub's cache on this machine"


def cache_state(hub_id: str, revision: str = MAIN) -> str:
    """What the hub's cache on this machine has of a model that cannot be opened from it, as a clause."""
    try:
        home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="model")
        validate_repo_id(hub_id)
    except HFValidationError:
        return "not in the hub's cache on this machine"
    folder = cached_folder(hub_id, revision)
    if folder is None:
        others = sorted(_revisions(home))
        if not others:
            return "not in the hub's cache on this machine"
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        return (
            f"in the hub's cache on this machine in another revision than {revision}: {named}; open "
            f"{hub_id}@{others[0]}"
        )
    unfinished = any(home.glob("blobs/*.incomplete"))
    begun = "only half in the hub's cache on this machine (a download was interrupted)" if unfinished else ""
    dangling = next(
        (path.name for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists()), None
    )
    if dangling:
        return f"{begun or DAMAGED}: {dangling} is a link to a file that is not there"
    if not (folder / "config.json").is_file():
        fault = "config.json is missing"
    elif not any((folder / name).is_file() for name in TOKENIZERS):
        fault = f"none of {', '.join(TOKENIZERS)} is there"
    else:
        # What to do about the cache follows; for a folder of one's own it would be something else.
        fault = (weights_fault(folder) or "it is there by now").partition("; ")[0]
    return f"{begun or NOT_WHOLE}: {fault}"


def downloaded_snapshot(hub_id: str, revision: str = MAIN, progress: Progress = no_progress) -> Path:
    """The folder of a hub model, downloaded unless offline mode (HF_HUB_OFFLINE) forbids it."""
    cached = cached_folder(hub_id, revision)
    if cached is not None and _has_only_pickles(cached):
        # The hub has no more than that either.
        raise NptVizError(
            f"{shown(hub_id)} is in the hub's cache on this machine, and {weights_fault(cached)}"
        )
    if constants.HF_HUB_OFFLINE:
        raise NptVizError(
            f"{shown(hub_id)} is no folder; it is {cache_state(hub_id, revision)}; HF_HUB_OFFLINE forbids a download: unset "
            "it, or give a local folder or a .gguf file"
        )
    progress(f"downloading {hub_id} from the hub", None)
    unreachable = (
        f"it is {cache_state(hub_id, revision)}, and the hub cannot be reached",
        "check the network, or give a local folder or a .gguf file",
    )
    folder = fetched(hub_id, revision, FILES, unreachable=unreachable, kinds="a folder, a .gguf file")
    if not (folder / "config.json").is_file():
        reason = "its repository has no config.json, so it is no model of transformers; open its .gguf file, if it has one"
    elif fault := weights_fault(folder):
        reason = fault
    else:
        return folder
    raise NptVizError(f"{shown(hub_id)} cannot be opened: {reason}")


def fetched(
    hub_id: str,
    revision: str,
    allow: list[str],
    ignore: list[str] | None = None,
    *,
    unreachable: tuple[str, str],
    kinds: str,
) -> Path:
    """The snapshot folder of a repository, downloaded.

    allow, ignore: patterns of its files.
    unreachable: what is wrong without a network, and what to do. kinds: what else than a hub id could be meant.
    Raises NptVizError with the reason where it cannot be had.
    """
    try:
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=allow, ignore_patterns=ignore)
        )
    except HFValidationError:
        reason = f"it is neither {kinds}, nor a hub id; a hub id is written owner/name"
    except GatedRepoError:
        reason = "its owner asks you to accept terms first; do so on its hub page and run `hf auth login`"
    except RevisionNotFoundError:
        reason = f"it has no revision {revision}; give a branch, a tag or a commit that its hub page lists"
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private; check the name, or run `hf auth login`"
    except Exception as error:  # The network has more ways to fail than can be listed.
        reason = f"{unreachable[0]} ({type(error).__name__}); {unreachable[1]}"
    raise NptVizError(f"{shown(hub_id)} cannot be opened: {reason}")


def cached_folder(hub_id: str, revision: str) -> Path | None:
    """The snapshot folder of a revision in the cache, whole or not."""
    try:
        validate_repo_id(hub_id)
    except HFValidationError:
        return None
    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="model")
    try:
        commit = (home / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        # A commit, whole or by its first digits.
        known = [
            path.name for path in home.glob("snapshots/*") if revision and path.name.startswith(revision)
        ]
        commit = known[0] if len(known) == 1 else ""
    folder = home / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def _revisions(home: Path) -> set[str]:
    """Revisions of a model that the cache has files of: branches and tags by name, other commits by their digits."""
    commits = {path.name: path.name[:12] for path in home.glob("snapshots/*") if path.is_dir()}
    for ref in home.glob("refs/**/*"):
        if ref.is_file():
            try:
                commit = ref.read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                continue
            if commit in commits:
                commits[commit] = str(ref.relative_to(home / "refs"))
    return set(commits.values())


def _has_only_pickles(folder: Path) -> bool:
    return any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors*"))

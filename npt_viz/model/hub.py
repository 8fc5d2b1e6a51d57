"""Hugging Face hub models: the copy on this machine, or a download where the network is allowed."""

import json
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress, no_progress

FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
"""Files that are downloaded: no Python code, no pickle."""

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


def cached_snapshot(hub_id: str) -> Path | None:
    """The folder of a hub model that is wholly in the local cache; touches no network."""
    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    has_tokenizer = any((folder / name).exists() for name in TOKENIZERS)
    return folder if has_tokenizer and not missing_weights(folder) else None


def missing_weights(folder: Path) -> str | None:
    """The first safetensors file that the folder needs and lacks: its only one, or a shard that its index names."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"a readable {index.name}"
    return next((name for name in names if not (folder / name).exists()), None)


def downloaded_snapshot(hub_id: str, progress: Progress = no_progress) -> Path:
    """The folder of a hub model, downloaded unless offline mode (HF_HUB_OFFLINE) forbids it."""
    if constants.HF_HUB_OFFLINE:
        raise NptVizError(
            f"{hub_id} is no folder, and not in the hub's cache on this machine; HF_HUB_OFFLINE forbids a "
            "download: unset it, or give a local folder or a .gguf file"
        )
    progress(f"downloading {hub_id} from the hub", None)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=FILES))
    except HFValidationError:
        reason = "it is neither a folder, a .gguf file, nor a hub id; a hub id is written owner/name"
    except GatedRepoError:
        reason = "its owner asks you to accept terms first; do so on its hub page and run `hf auth login`"
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private; check the name, or run `hf auth login`"
    except Exception as error:  # The network has more ways to fail than can be listed.
        reason = (
            f"it is not on this machine and the hub cannot be reached ({type(error).__name__}); "
            "check the network, or give a local folder or a .gguf file"
        )
    raise NptVizError(f"{hub_id} cannot be opened: {reason}")

"""Hugging Face hub models: the copy on this machine, or a download where the network is allowed."""

from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.model.progress import Progress, silent

FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
"""What a model needs: never Python code, never a pickle."""


def cached_snapshot(hub_id: str) -> Path | None:
    """The folder of a hub model that is wholly in the local cache; touches no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    has_tokenizer = any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    )
    return folder if has_tokenizer and has_all_weights(folder) else None


def has_all_weights(folder: Path) -> bool:
    """Whether the folder has its safetensors file, or every shard that its index names."""
    import json

    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return (folder / "model.safetensors").exists()
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((folder / shard).exists() for shard in shards)


def downloaded_snapshot(hub_id: str, progress: Progress = silent) -> Path:
    """The folder of a hub model, downloaded unless offline mode (HF_HUB_OFFLINE) forbids it."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        raise NptVizError(
            f"{hub_id} is not on this machine and HF_HUB_OFFLINE forbids a download; "
            "unset HF_HUB_OFFLINE, or give a local folder or a .gguf file"
        )
    progress(f"downloading {hub_id} from the hub", None)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=FILES))
    except HFValidationError:
        reason = "that is neither a folder, a .gguf file, nor a hub id (owner/name)"
    except GatedRepoError:
        reason = "its owner asks you to accept terms first: do so on its hub page and run `hf auth login`"
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private: check the name or run `hf auth login`"
    except (LocalEntryNotFoundError, OSError) as error:
        reason = (
            f"it is not on this machine and the hub does not answer ({type(error).__name__}): "
            "check the network, or give a local folder or a .gguf file"
        )
    raise NptVizError(f"{hub_id} cannot be opened: {reason}")

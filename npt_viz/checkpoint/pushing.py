"""Push a checkpoint to the Hugging Face hub: weights, config and card in one commit."""

import json
import tempfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from npt_viz.arguments import checked
from npt_viz.checkpoint.card import CARD, checkpoint_card, is_ours
from npt_viz.checkpoint.finding import NATIVE_CONFIG
from npt_viz.checkpoint.opening import Checkpoint, checkpoint_in
from npt_viz.checkpoint.saving import save_converted
from npt_viz.errors import NptVizError
from npt_viz.places import shown


@checked
def push_checkpoint(
    checkpoint: Checkpoint | str | Path, hub_id: str, *, private: bool = True, message: str | None = None
) -> str:
    """Push a checkpoint in the native format, with its card, to owner/name on the hub; returns the commit's address.

    checkpoint: opened, in memory, or the path of one.
    private: of a repository that is made for it; one that is there stays as it is, and a README.md in it that npt_viz did
        not write stays, too.
    Of paths of this machine in the config the last part alone is sent. Raises NptVizError where HF_HUB_OFFLINE is set,
    nobody is logged in, the name is none, or the hub does not take it.
    """
    _check_may_push(hub_id)
    is_mine = not isinstance(checkpoint, Checkpoint)
    opened = checkpoint_in(checkpoint) if not isinstance(checkpoint, Checkpoint) else checkpoint
    try:
        with tempfile.TemporaryDirectory(prefix="npt_viz-") as scratch:
            folder = Path(scratch) / hub_id.rpartition("/")[2]
            save_converted(opened, folder, "native")
            _describe(folder, hub_id, opened.path)
            return _pushed(folder, hub_id, private, message or f"Push {opened.name} by npt_viz")
    finally:
        if is_mine:
            opened.close()


def _check_may_push(hub_id: str) -> None:
    try:
        validate_repo_id(hub_id)
    except HFValidationError:
        is_valid = False
    else:
        is_valid = hub_id.count("/") == 1
    if not is_valid:
        raise NptVizError(
            f"{shown(hub_id)!r} is no hub id; write owner/name, the owner being you or an organisation"
        )
    if constants.HF_HUB_OFFLINE:
        raise NptVizError(
            f"{hub_id}: HF_HUB_OFFLINE forbids an upload; unset it, or save the checkpoint in a folder"
        )
    if get_token() is None:
        raise NptVizError(
            f"{hub_id}: nobody is logged in to the hub on this machine; run `hf auth login`, or set HF_TOKEN to a token that may write"
        )


def _describe(folder: Path, hub_id: str, source: Path | None) -> None:
    """Take paths of this machine out of the config, and write the card of what is left; a card of one's own stays."""
    file = folder / NATIVE_CONFIG
    config = _without_paths(json.loads(file.read_text(encoding="utf-8")))
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    own = source / CARD if source is not None and source.is_dir() else None
    if own is not None and own.is_file() and not is_ours(own):
        (folder / CARD).write_bytes(own.read_bytes())
    else:
        (folder / CARD).write_text(checkpoint_card(config, folder.name, hub_id), encoding="utf-8")


def _without_paths(value: Any) -> Any:
    """The same with the last part alone of every absolute path."""
    if isinstance(value, dict):
        return {name: _without_paths(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    if isinstance(value, str) and "\n" not in value:
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or value.startswith("~/"):
                return path.name
    return value


def _pushed(folder: Path, hub_id: str, private: bool, message: str) -> str:
    api = HfApi()
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
        ignored = [CARD] if _has_card_of_another(api, hub_id) else None
        commit = api.upload_folder(
            repo_id=hub_id, folder_path=folder, commit_message=message, ignore_patterns=ignored
        )
        return str(commit.commit_url)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = (
            "the token of this machine may not write there; check the owner, or log in with a token that may write"
            if status in (401, 403)
            else f"the hub refused it (HTTP {status}); try again later, or see its hub page"
        )
    except Exception as error:  # The network has more ways to fail than can be listed.
        reason = f"the hub cannot be reached ({type(error).__name__}); check the network and push again"
    raise NptVizError(f"{hub_id} was not pushed: {reason}")


def _has_card_of_another(api: HfApi, hub_id: str) -> bool:
    try:
        return not is_ours(Path(api.hf_hub_download(hub_id, CARD)))
    except (EntryNotFoundError, RepositoryNotFoundError):
        return False

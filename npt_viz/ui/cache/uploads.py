"""Uploaded files: in the browser's folder of the workspace, under a name that its content decides."""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.ui.cache.owner import CHECKPOINTS, owner


def uploaded_checkpoint() -> Path | None:
    """Path of the uploaded checkpoint; None before anything was uploaded."""
    file = st.file_uploader(
        "Upload a checkpoint file", type=CHECKPOINTS, key="upload", label_visibility="collapsed"
    )
    return None if file is None else uploaded(file, "checkpoint")


def uploaded(file: Any, otherwise: str) -> Path:
    """Path of an uploaded file, the same whenever the same content is uploaded under the same name.

    otherwise: name of a file whose own has nothing harmless in it.
    """
    known: dict[str, str] = st.session_state.setdefault("_uploaded", {})
    path = Path(known.get(file.file_id, ""))
    if file.file_id not in known or not path.exists():
        path = _written(file.getbuffer(), safe_name(file.name, otherwise))
        known[file.file_id] = str(path)
    return path


def _written(content: memoryview, name: str) -> Path:
    """Write the content into the workspace, or where that does not take it into a folder that goes with the server."""
    present = owner()
    path = present.folder.uploads / hashlib.sha256(content).hexdigest()[:16] / name
    if path.exists():
        return path
    try:
        present.room_for(len(content))
        write_whole(path, content, parents=True)
    except NptVizError as error:
        present.say(f"{name} is kept only while this server runs. {error}")
        path = Path(tempfile.mkdtemp(prefix="npt_viz-")) / name
        write_whole(path, content)
    return path


def safe_name(name: str, otherwise: str) -> str:
    """File name for an uploaded file: the harmless part of the user's name, or `otherwise` where none is left."""
    harmless = re.sub(r"[^\w.-]+", "_", Path(name).name).lstrip(".") or otherwise
    # In bytes a letter may count four times; a file name has 255 of them.
    return (
        harmless if len(harmless) <= _LONGEST else f"{harmless[: _LONGEST - 20]}{Path(harmless).suffix[:20]}"
    )


_LONGEST = 60
"""Characters of an uploaded file's name that are kept."""

"""Uploaded files, in a folder that is deleted with the session."""

import re
import shutil
import tempfile
import weakref
from pathlib import Path

import streamlit as st

from npt_viz.files import write_whole

TYPES = ["safetensors", "pt", "bin"]


def uploaded_checkpoint() -> Path | None:
    """Path of the uploaded checkpoint; None before anything was uploaded."""
    file = st.file_uploader(
        "Upload a checkpoint file", type=TYPES, key="upload", label_visibility="collapsed"
    )
    if file is None:
        return None
    path = session_folder() / file.file_id[:12] / safe_name(file.name, "checkpoint")
    if not path.exists():
        write_whole(path, file.getbuffer(), parents=True)
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


class _Folder:
    """A folder that is deleted when this object is dropped with the session, or at exit."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="npt_viz-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def session_folder() -> Path:
    """Folder of this session's files, deleted with it."""
    if "_uploads" not in st.session_state:
        st.session_state["_uploads"] = _Folder()
    return st.session_state["_uploads"].path

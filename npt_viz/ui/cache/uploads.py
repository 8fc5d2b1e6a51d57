"""Uploaded files, in a folder that is deleted with the session."""

import re
import shutil
import tempfile
import weakref
from pathlib import Path

import streamlit as st

TYPES = ["safetensors", "pt", "bin"]


def uploaded_checkpoint() -> Path | None:
    """Path of the uploaded checkpoint; None before anything was uploaded."""
    file = st.file_uploader(
        "Upload a checkpoint file", type=TYPES, key="upload", label_visibility="collapsed"
    )
    if file is None:
        return None
    # The name is the user's: only its harmless part becomes a path.
    name = re.sub(r"[^\w.-]+", "_", Path(file.name).name).lstrip(".") or "checkpoint"
    path = session_folder() / file.file_id[:12] / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(file.getbuffer())
        unfinished.rename(path)
    return path


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

"""Uploaded checkpoints: kept in a folder of the session that goes when the session goes."""

import re
import tempfile
from pathlib import Path

import streamlit as st

TYPES = ["safetensors", "pt", "bin"]


def uploaded_checkpoint() -> Path | None:
    """The uploaded file's path on disk; None before anything was uploaded."""
    file = st.file_uploader(
        "Upload a checkpoint file", type=TYPES, key="upload", label_visibility="collapsed"
    )
    if file is None:
        return None
    # The name is the user's: only its harmless part becomes a path.
    name = re.sub(r"[^\w.-]+", "_", Path(file.name).name).lstrip(".") or "checkpoint"
    path = _folder() / file.file_id[:12] / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(file.getbuffer())
        unfinished.rename(path)
    return path


def _folder() -> Path:
    # The object deletes its folder when it is dropped with the session.
    return Path(st.session_state.setdefault("_uploads", tempfile.TemporaryDirectory(prefix="npt_viz-")).name)

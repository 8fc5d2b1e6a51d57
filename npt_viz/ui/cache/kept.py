"""Store of the results that all sessions share, and the progress bar of one that is being computed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from npt_viz.progress import CountProgress

PATIENCE = 0.5
"""Seconds before a bar is drawn: what is quicker would only flicker."""


class Kept:
    """Store of the `most` values used last, safe between threads. Values are not copied: nobody changes them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any | None:
        """Value of a key, which then counts as just used; None where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: object) -> None:
        """Keep a value, in place of the one that was used least recently where the store is full."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()


@st.cache_resource(show_spinner=False)
def results() -> Kept:
    """Results of inspections and of what takes long."""
    return Kept(128)


@st.cache_resource(show_spinner=False)
def passes() -> Kept:
    """Activations of the prompts that were looked at last."""
    return Kept(3)


def bar(place: DeltaGenerator, label: str) -> CountProgress:
    """Progress callback that draws a bar with the time left; any click on the page stops what calls it."""
    started = time.monotonic()

    def progress(done: int, in_all: int) -> None:
        elapsed = time.monotonic() - started
        if elapsed < PATIENCE:
            return
        left = elapsed * (in_all - done) / max(done, 1)
        place.progress(done / in_all, text=f"{label}: {done:,} of {in_all:,}, {duration(left)} left")

    return progress


def duration(seconds: float) -> str:
    """Time in words: 2 s, 3 min."""
    return f"{max(seconds, 1):.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

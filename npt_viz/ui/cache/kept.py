"""Results that were computed once and are shared by all sessions, and how far one is that is being computed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

Progress = Callable[[int, int], None]
"""progress(done, in all)"""

PATIENCE = 0.5
"""Seconds before a bar is drawn: what is quicker would only flicker."""


class Kept:
    """The results that were asked for last. What is kept is not copied: nobody changes it."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, OrderedDict()
        self._lock = threading.Lock()

    def get(self, asked: Hashable) -> Any | None:
        with self._lock:
            if asked in self._found:
                self._found.move_to_end(asked)
            return self._found.get(asked)

    def put(self, asked: Hashable, result: object) -> None:
        with self._lock:
            self._found[asked] = result
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._found.clear()


@st.cache_resource(show_spinner=False)
def results() -> Kept:
    return Kept(128)


@st.cache_resource(show_spinner=False)
def passes() -> Kept:
    """Activations of the prompts that were looked at last."""
    return Kept(3)


def bar(place, label: str) -> Progress:
    """Draws how far it is and how long it will still take; any click on the page stops what calls it."""
    started = time.monotonic()

    def progress(done: int, in_all: int) -> None:
        taken = time.monotonic() - started
        if taken < PATIENCE:
            return
        left = taken * (in_all - done) / max(done, 1)
        place.progress(done / in_all, text=f"{label}: {done:,} of {in_all:,}, {duration(left)} left")

    return progress


def duration(seconds: float) -> str:
    """2 s, 3 min"""
    return f"{max(seconds, 1):.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

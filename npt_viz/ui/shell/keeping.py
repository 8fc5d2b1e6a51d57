"""Choices that survive a reload: each page registers its own, the browser's owner keeps their values.

An address says more than what is kept, and what is kept more than a default.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import streamlit as st

from npt_viz.ui.cache.owner import owner

LONGEST = 1_000_000
"""Characters of a text that is kept; a longer one lasts as long as its session."""

CHOICES = "choices"
"""Name under which the owner keeps them."""


PROMPTS = "prompts"
"""Name under which the owner keeps the prompts that addresses only refer to."""

MOST_PROMPTS = 20


class Choice(NamedTuple):
    """One name of the session that is kept."""

    default: Any
    write: Callable[[Any], Any] | None
    """To what JSON has."""
    read: Callable[[Any], Any] | None
    """Back again; raises ValueError, TypeError or KeyError for what cannot be."""


KEPT: dict[str, Choice] = {}
"""Names of the session that survive a reload."""


def keep(
    name: str,
    default: Any = None,
    *,
    write: Callable[[Any], Any] | None = None,
    read: Callable[[Any], Any] | None = None,
) -> None:
    """Register a name of the session as one that survives a reload; when a page's module is imported.

    default: also says of what kind a value has to be; None where any will do.
    write, read: for a value that JSON has not.
    """
    KEPT[name] = Choice(default, write, read)


def keep_all(defaults: Mapping[str, Any]) -> None:
    """Register names with their defaults."""
    for name, default in defaults.items():
        keep(name, default)


def settle(*names: str) -> None:
    """Give names that have no value in this session the one that was kept, or else their default."""
    session = st.session_state
    for name in names:
        if name not in session:
            value = kept(name)
            session[name] = copy(KEPT[name].default) if value is None else value


def overlay(*names: str) -> None:
    """Register names with their values of now as defaults, and give those that were kept what was kept."""
    for name in names:
        keep(name, st.session_state[name])
        value = kept(name)
        if value is not None:
            st.session_state[name] = value


def kept(name: str) -> Any:
    """Value that the owner keeps for a registered name; None where it keeps none, or one of another kind."""
    return _read(name, (owner().get(CHOICES) or {}).get(name))


def _read(name: str, value: Any) -> Any:
    choice = KEPT[name]
    try:
        if value is not None and choice.read is not None:
            return choice.read(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return value if choice.default is None or _alike(value, choice.default) else None


@contextmanager
def remembered() -> Iterator[None]:
    """Keep what the session has changed when the block ends, however it ends: a run of the app, or of a fragment."""
    try:
        yield
    finally:
        remember()


def remember() -> None:
    """Keep what this session has changed.

    What it did not change stays as another tab has left it.
    """
    session, present = st.session_state, owner()
    known: dict[str, Any] = session.setdefault("_kept_choices", {})
    changed = {}
    for name, choice in KEPT.items():
        if name in session:
            value = session[name] if choice.write is None else choice.write(session[name])
            if name not in known or known[name] != value:
                changed[name] = known[name] = copy(value)
    short = {name: value for name, value in changed.items() if not _is_long(value)}
    if short:
        present.put(CHOICES, (present.get(CHOICES) or {}) | short)


def written(start: str) -> dict[str, Any]:
    """Values of this session under the registered names that begin so, as JSON has them."""
    session = st.session_state
    return {
        name: session[name] if choice.write is None else choice.write(session[name])
        for name, choice in KEPT.items()
        if name.startswith(start) and name in session
    }


def restore(values: Mapping[str, Any]) -> None:
    """Give registered names the values that `written` gave; what cannot be one is left as it is."""
    for name, value in values.items():
        if name in KEPT and (found := _read(name, value)) is not None:
            st.session_state[name] = found


def keep_prompt(reference: str, prompt: str) -> None:
    """Keep a prompt that an address refers to, so that a reload finds it after the server was started anew."""
    before = owner().get(PROMPTS) or {}
    others = [(name, text) for name, text in before.items() if name != reference]
    owner().put(PROMPTS, dict([*others[1 - MOST_PROMPTS :], (reference, prompt)]))


def kept_prompt(reference: str) -> str | None:
    """Prompt that this browser's address refers to; None where it is not kept."""
    return (owner().get(PROMPTS) or {}).get(reference)


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > LONGEST


def _alike(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of a default; whole numbers may stand for others."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))

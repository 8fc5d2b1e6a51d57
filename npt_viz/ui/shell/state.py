"""State that all pages share: in the session while it lasts, in the address to come back and to share.

Widgets use these names as their keys. The address names everything that is not at its default, model and checkpoint
always, and the prompt while it is short (`address.py`); what it does not name is then at its default, so that an
address shows the same view in every browser.
"""

import os
import time
from collections.abc import Callable, Iterable
from copy import copy
from typing import NamedTuple

import streamlit as st

from npt_viz.places import OPENED_FIRST
from npt_viz.question import MODES, POSITIONS
from npt_viz.results.inspection import METRICS, TOKEN_METRICS
from npt_viz.ui.shell import address, keeping
from npt_viz.ui.shell.examples import DEFAULT, EXAMPLES
from npt_viz.ui.shell.found import first_checkpoint

LAG = 0.7
"""Seconds in which the browser may still send the address before the one just written."""


NONE = "-"
"""No value, or none of several, where an address has to say so: of A, which may have none where the view has some."""


class Shared(NamedTuple):
    """Default of a shared value, and the reader of its text in a URL (ValueError where it is none)."""

    default: object
    read: Callable[[str], object] = str


def one_of(*allowed: str) -> Callable[[str], str]:
    """Reader of one of these words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return read


def _flag(text: str) -> bool:
    return one_of("0", "1")(text) == "1"


def _numbers(text: str) -> list[int]:
    return [] if text == NONE else sorted({int(number) for number in text.split(",")})


SHARED: dict[str, Shared] = {
    "model": Shared("smollm2-135m"),
    "dtype": Shared("auto", one_of("auto", "float32", "bfloat16", "float16")),
    "device": Shared("auto"),
    "checkpoint": Shared(""),
    "semantics": Shared(""),
    "mode": Shared("local", one_of(*MODES)),
    "positions": Shared("deployed", one_of(*POSITIONS)),
    "chat": Shared(False, _flag),
    "bos": Shared("auto", one_of("auto", "yes", "no")),
    "on": Shared([], _numbers),
    "layer": Shared(None, int),
    "edits": Shared([], _numbers),
    "tok": Shared(None, int),
    "metric": Shared("relative_error", one_of(*METRICS, *TOKEN_METRICS)),
    "sinks": Shared(False, _flag),
}
"""`on`: layers that run as NPT, all of them where empty. `layer`, `tok`: None lets the page choose. `edits`: numbers of the ledger's
updates that lie beneath, on Compare."""

SIDE = ("model", "checkpoint", "semantics", "mode", "positions", "chat", "bos", "on", "layer", "edits")
"""What is pinned as A, beside the prompt. Precision and device are those of the view that it is compared with."""

OF_A = "a_"
"""Before a name in the address: A's value, where it is not that of the view."""

ALWAYS = ("model", "checkpoint")
"""What every address names: a server may open something else first, and a browser may remember something else."""

_FIRST = {name: os.environ[variable] for name, variable in OPENED_FIRST.items() if variable in os.environ}
"""What this server opens first."""

_NAMES_OF_A = tuple(f"{OF_A}{name}" for name in (*SIDE, *address.PROMPT_NAMES))
_OWN = {*SHARED, *address.PROMPT_NAMES, *_NAMES_OF_A}

keeping.keep("prompt", EXAMPLES[DEFAULT])
keeping.keep("private", False)
keeping.keep("a_side")
for _name in SHARED:
    keeping.keep(_name)


def begin() -> None:
    """Take over what the address says anew, then write the present state into it: app.py's first call."""
    state = st.session_state
    said = st.query_params.to_dict()
    is_whole = all(name in said for name in ALWAYS)
    state.setdefault("private", bool(keeping.kept("private")))
    for name, shared in SHARED.items():
        if name in said and _is_new(name, said):
            try:
                state[name] = shared.read(said[name])
            except ValueError:
                state.setdefault(name, _default(name))
        elif is_whole and name not in said and _is_new(name, said):
            state[name] = _default(name)
        else:
            # Set anew: a widget's value is dropped when the page that had the widget is left.
            state[name] = state[name] if name in state else _before(name)
    _take_prompt(said, is_whole)
    if not state["checkpoint"]:
        state["checkpoint"] = first_checkpoint()
    _take_a(said, is_whole)
    write()


def _default(name: str) -> object:
    default = SHARED[name].default
    return _FIRST.get(name, list(default) if isinstance(default, list) else default)


def _before(name: str) -> object:
    """What this browser looked at last, as far as it can be read."""
    value = keeping.kept(name)
    try:
        return _default(name) if value is None else SHARED[name].read(_shown(value))
    except (ValueError, TypeError):
        return _default(name)


def _is_new(name: str, said: dict[str, str]) -> bool:
    """Whether the address says something of this name that it did not say before.

    The browser's address lags behind quick clicks: for a moment it may still say what it said before the last writing.
    """
    state = st.session_state
    if "_url_said" not in state:
        return True
    if said.get(name) == state["_url_said"].get(name):
        return False
    lagging = time.monotonic() - state.get("_url_at", -LAG) < LAG
    return not (lagging and said.get(name) == state.get("_url_before", {}).get(name))


def _take_prompt(said: dict[str, str], is_whole: bool) -> None:
    state = st.session_state
    named = {name: said[name] for name in address.PROMPT_NAMES if name in said}
    if any(_is_new(name, said) for name in address.PROMPT_NAMES) and (named or is_whole):
        try:
            state["prompt"] = address.prompt_of(named) if named else EXAMPLES[DEFAULT]
        except address.UnknownPromptError as error:
            if (prompt := keeping.kept_prompt(named.get("p", ""))) is not None:
                state["prompt"] = prompt  # This browser's own, from before the server was started anew.
                return
            # The pin belonged to that prompt.
            state["tok"] = None
            st.toast(str(error), icon=":material/lock:")
    state.setdefault("prompt", keeping.kept("prompt") or EXAMPLES[DEFAULT])


def _take_a(said: dict[str, str], is_whole: bool) -> None:
    """Take over what the address says of A: the view, but for what is named."""
    state = st.session_state
    named = {name.removeprefix(OF_A): said[name] for name in _NAMES_OF_A if name in said}
    if any(_is_new(name, said) for name in _NAMES_OF_A) and (named or is_whole):
        state["a_side"] = side() | _read_of_a(named) if named else None
    if "a_side" not in state:
        before = keeping.kept("a_side")
        is_one = isinstance(before, dict) and {*before} == {*SIDE, "prompt"}
        state["a_side"] = before if is_one else None


def _read_of_a(named: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in SIDE:
        try:
            if name in named:
                shared = SHARED[name]
                is_none = named[name] == NONE and not shared.default
                found[name] = copy(shared.default) if is_none else shared.read(named[name])
        except ValueError:
            continue
    if prompt := {name: text for name, text in named.items() if name in address.PROMPT_NAMES}:
        try:
            found["prompt"] = address.prompt_of(prompt)
        except address.UnknownPromptError as error:
            kept = keeping.kept_prompt(prompt.get("p", ""))
            if kept is not None:
                found["prompt"] = kept
            else:
                st.toast(f"A: {error}", icon=":material/lock:")
    return found


def side() -> dict[str, object]:
    """What is looked at, as it can be pinned as A."""
    return {name: copy(st.session_state[name]) for name in (*SIDE, "prompt")}


def pin_as_a(**changes: object) -> None:
    """Pin what is looked at as A, the side that Compare compares with, but for the changes."""
    st.session_state["a_side"] = side() | changes


def look_at(other: dict[str, object]) -> None:
    """Look at what was pinned as A; the pinned token belonged to the prompt before."""
    st.session_state.update({**other, "tok": None})


def pin(token: int, layer: int | None = None) -> None:
    """Pin a token, and a layer where one is given, for every page."""
    st.session_state["tok"] = token
    if layer is not None:
        st.session_state["layer"] = layer


def ask(prompt: str, *, chat: bool | None = None, bos: str | None = None) -> None:
    """Ask about another prompt; the pin belonged to the one before."""
    state = st.session_state
    if prompt != state["prompt"]:
        state["tok"] = None
    state["prompt"] = prompt
    if chat is not None:
        state["chat"] = chat
    if bos is not None:
        state["bos"] = bos


def write() -> None:
    """Write the present state into the address, where it says something else."""
    wanted, before = _said_of_state(), st.query_params.to_dict()
    if {name: text for name, text in before.items() if name in _OWN} != wanted:
        others = {name: st.query_params.get_all(name) for name in before if name not in _OWN}
        # All at once: every writing is an entry in the browser's history.
        st.query_params.from_dict(others | wanted)
        st.session_state.update(_url_before=before, _url_at=time.monotonic())
    st.session_state["_url_said"] = wanted


def said_without_prompt() -> dict[str, str]:
    """What the address says of the view, but for the prompt."""
    return {name: text for name, text in st.session_state.get("_url_said", {}).items() if name in SHARED}


def _said_of_state() -> dict[str, str]:
    state = st.session_state
    said = {
        name: _shown(state[name])
        for name, shared in SHARED.items()
        if name in ALWAYS or state[name] not in (shared.default, None)
    }
    of_prompt = address.of_prompt(state["prompt"], is_private=bool(state.get("private")))
    if "p" in of_prompt:
        keeping.keep_prompt(of_prompt["p"], state["prompt"])
    return said | of_prompt | _said_of_a()


def _said_of_a() -> dict[str, str]:
    """What A has otherwise than the view."""
    state = st.session_state
    other = state.get("a_side")
    if not other:
        return {}
    said = {name: _shown(other[name]) or NONE for name in SIDE if other[name] != state[name]}
    if other["prompt"] != state["prompt"]:
        is_private = bool(state.get("private"))
        of_prompt = address.of_prompt(other["prompt"], is_private=is_private) or {"example": DEFAULT}
        if "p" in of_prompt:
            keeping.keep_prompt(of_prompt["p"], other["prompt"])
        said |= of_prompt
    return {f"{OF_A}{name}": text for name, text in said.items()}


def _shown(value: object) -> str:
    if value is None or value == []:
        return NONE
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)

"""What all pages share, each under one name: in the session while it lasts, in the URL to come back and to share.

Widgets use these names as their keys. A prompt may be private: the URL holds the id of an example, or a reference
that only this server can resolve; the text itself goes into a link when the user asks for it (`link`).
"""

import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import streamlit as st

from npt_viz.places import OPENED_FIRST
from npt_viz.results.inspection import METRICS, TOKEN_METRICS
from npt_viz.ui.shell.examples import DEFAULT, EXAMPLES, example_id


class Shared(NamedTuple):
    """One value: its default, and how it is read from the text in a URL (ValueError where it is none)."""

    default: object
    read: Callable[[str], object] = str


def one_of(*allowed: str) -> Callable[[str], str]:
    """Reads one of these words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return read


def _flag(text: str) -> bool:
    return one_of("0", "1")(text) == "1"


def _numbers(text: str) -> list[int]:
    return sorted({int(number) for number in text.split(",")})


SHARED: dict[str, Shared] = {
    "model": Shared("smollm2-135m"),
    "dtype": Shared("auto", one_of("auto", "float32", "bfloat16", "float16")),
    "device": Shared("auto"),
    "checkpoint": Shared(""),
    "semantics": Shared(""),
    "mode": Shared("local", one_of("local", "propagated")),
    "positions": Shared("deployed", one_of("deployed", "trained")),
    "chat": Shared(False, _flag),
    "bos": Shared("auto", one_of("auto", "yes", "no")),
    "on": Shared([], _numbers),
    "layer": Shared(None, int),
    "tok": Shared(None, int),
    "metric": Shared("relative_error", one_of(*METRICS, *TOKEN_METRICS)),
    "sinks": Shared(False, _flag),
}
"""`on`: layers that run as NPT, all of them where empty. `layer`, `tok`: None lets the page choose."""

_FIRST = {name: os.environ[variable] for name, variable in OPENED_FIRST.items() if variable in os.environ}
"""What this server opens first. Addresses always name it: another server opens something else."""

_KEPT_PROMPTS = 200
_private_prompts: OrderedDict[str, str] = OrderedDict()
"""Unguessable reference -> prompt, in the memory of this server only."""


def begin() -> None:
    """The first thing app.py does: take what the URL says anew, then write what holds now."""
    state = st.session_state
    said = st.query_params.to_dict()
    before, written = state.get("_url_said", {}), state.get("_url_written", {})
    # The browser's address lags behind quick clicks, so only what it says for the first time counts.
    news = {k: v for k, v in said.items() if v != before.get(k) and v != written.get(k)}
    for name, shared in SHARED.items():
        if name in news:
            try:
                state[name] = shared.read(news[name])
            except ValueError:
                state.setdefault(name, shared.default)
        else:
            state.setdefault(name, _FIRST.get(name, shared.default))
    prompt = _prompt_of(news)
    if prompt is not None:
        state["prompt"] = prompt
    state.setdefault("prompt", EXAMPLES[DEFAULT])
    _write({**_changed(), **_prompt_reference(state["prompt"])})
    state["_url_said"] = said


def pin(token: int, layer: int | None = None) -> None:
    """Make one token, and where given one layer, the subject of every page."""
    st.session_state["tok"] = token
    if layer is not None:
        st.session_state["layer"] = layer


def link(*, with_prompt: bool) -> str:
    """The address of this view for someone else, with or without the prompt's text."""
    prompt = st.session_state["prompt"]
    said = _changed()
    if example_id(prompt):
        said |= _prompt_reference(prompt)
    elif with_prompt:
        said |= {"prompt": prompt}
    address = urlsplit(st.context.url or "http://localhost:8501/")._replace(
        query=urlencode(said), fragment=""
    )
    return address.geturl()


def _changed() -> dict[str, str]:
    return {
        name: _shown(st.session_state[name])
        for name, shared in SHARED.items()
        if name in _FIRST or st.session_state[name] not in (shared.default, None)
    }


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _write(wanted: dict[str, str]) -> None:
    own = {*SHARED, "example", "p", "prompt"}
    for name in own & set(st.query_params) - set(wanted):
        del st.query_params[name]
    for name, text in wanted.items():
        if st.query_params.get(name) != text:
            st.query_params[name] = text
    st.session_state["_url_written"] = wanted


def _prompt_of(said: dict[str, str]) -> str | None:
    if "prompt" in said:
        return said["prompt"]
    if "p" in said:
        if said["p"] not in _private_prompts:
            st.toast(
                "That prompt was private to the server that ran then; here is an example.",
                icon=":material/lock:",
            )
        return _private_prompts.get(said["p"])
    return EXAMPLES.get(said.get("example", ""))


def _prompt_reference(prompt: str) -> dict[str, str]:
    if example := example_id(prompt):
        return {} if example == DEFAULT else {"example": example}
    reference = next((key for key, text in list(_private_prompts.items()) if text == prompt), None)
    if reference is None:
        reference = secrets.token_urlsafe(9)
        _private_prompts[reference] = prompt
        if len(_private_prompts) > _KEPT_PROMPTS:
            _private_prompts.popitem(last=False)
    return {"p": reference}

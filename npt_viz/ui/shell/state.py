"""State that all pages share: in the session while it lasts, in the URL to come back and to share.

Widgets use these names as their keys. A prompt may be private: the URL holds the id of an example, or a reference
that only this server can resolve; the text itself goes into a link when the user asks for it (`link`).
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import streamlit as st

from npt_viz.places import OPENED_FIRST
from npt_viz.question import MODES, POSITIONS
from npt_viz.results.inspection import METRICS, TOKEN_METRICS
from npt_viz.ui.cache.kept import Kept
from npt_viz.ui.shell.examples import DEFAULT, EXAMPLES, example_id


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
    return sorted({int(number) for number in text.split(",")})


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
    "tok": Shared(None, int),
    "metric": Shared("relative_error", one_of(*METRICS, *TOKEN_METRICS)),
    "sinks": Shared(False, _flag),
}
"""`on`: layers that run as NPT, all of them where empty. `layer`, `tok`: None lets the page choose."""

_FIRST = {name: os.environ[variable] for name, variable in OPENED_FIRST.items() if variable in os.environ}
"""What this server opens first. Addresses always name it: another server opens something else."""

_SERVER_SECRET = secrets.token_bytes(32)
_private_prompts = Kept(200)
"""Unguessable reference -> prompt, in the memory of this server only."""


def begin() -> None:
    """Take over what the URL says for the first time, then write the present state into it: app.py's first call."""
    state = st.session_state
    address = st.query_params.to_dict()
    before, written = state.get("_url_said", {}), state.get("_url_written", {})
    # The browser's address lags behind quick clicks, so only what it says for the first time counts.
    news = {k: v for k, v in address.items() if v != before.get(k) and v != written.get(k)}
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
    state["_url_said"] = address


def pin(token: int, layer: int | None = None) -> None:
    """Pin a token, and a layer where one is given, for every page."""
    st.session_state["tok"] = token
    if layer is not None:
        st.session_state["layer"] = layer


def link(*, with_prompt: bool) -> str:
    """Address of this view for someone else, with or without the prompt's text."""
    prompt = st.session_state["prompt"]
    parameters = _changed()
    if example_id(prompt):
        parameters |= _prompt_reference(prompt)
    elif with_prompt:
        parameters |= {"prompt": prompt}
    address = urlsplit(st.context.url or "http://localhost:8501/")._replace(
        query=urlencode(parameters), fragment=""
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


def _prompt_of(parameters: dict[str, str]) -> str | None:
    if "prompt" in parameters:
        return parameters["prompt"]
    if "p" in parameters:
        prompt = _private_prompts.get(parameters["p"])
        if prompt is None:
            st.toast(
                "That prompt was private to the server that ran then; here is an example.",
                icon=":material/lock:",
            )
        return prompt
    return EXAMPLES.get(parameters.get("example", ""))


def _prompt_reference(prompt: str) -> dict[str, str]:
    if example := example_id(prompt):
        return {} if example == DEFAULT else {"example": example}
    reference = hashlib.blake2b(prompt.encode(), key=_SERVER_SECRET, digest_size=9).hexdigest()
    _private_prompts.put(reference, prompt)
    return {"p": reference}

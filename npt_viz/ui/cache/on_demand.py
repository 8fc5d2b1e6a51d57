"""Results that take long: computed at once where that is quick, else after a click; kept for all sessions."""

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st

from npt_viz.progress import CountProgress
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.kept import bar, duration, results
from npt_viz.ui.cache.opened import Selection

AT_ONCE = 4.0
"""Seconds up to which a result is computed without a click."""

MOST_WAITED = 256
"""Results that a session remembers to have waited for."""

LONG = 1500
"""Tokens run through the base model above which a wait says how long it is."""

Result = TypeVar("Result")


def on_demand(
    asked: Hashable, label: str, seconds: float, compute: Callable[[CountProgress], Result], *, key: str
) -> Result | None:
    """Result that belongs to `asked`; None, with a button that says how long it takes, until someone asks for it.

    compute: gets a function to report progress to; any click on the page stops it there.
    """
    if (result := computed(asked)) is not None:
        return result
    place = st.empty()
    if seconds > AT_ONCE and not st.session_state.pop(f"_{key}_wanted", False):
        with place.container(horizontal=True, vertical_alignment="center"):
            # A callback: a button's own True is lost where the page is run anew before it gets here.
            st.button(label, key=f"{key}_run", icon=":material/play_arrow:", on_click=want, args=(key,))
            st.caption(f"takes about {duration(seconds)}; a click anywhere stops it")
        return None
    with place, st.spinner(f"{label} …"):
        result = compute(bar(place, label))
    place.empty()
    results().put(asked, result)
    return result


def want(key: str) -> None:
    """Ask for the result of `on_demand` with this key, as a click on its button does."""
    st.session_state[f"_{key}_wanted"] = True


@contextmanager
def waiting(selection: Selection, what: str, passes: float, n_tokens: int, *, of: Hashable) -> Iterator[None]:
    """Spinner that names the time and counts it where the prompt is long; none where this session has waited `of` it.

    passes: the cost, in forward passes of the base model over the prompt.
    """
    waited: set[Hashable] = st.session_state.setdefault("_waited_of", set())
    if (what, of) in waited:
        # It is kept now, and a spinner is two messages for nothing.
        yield
        return
    work = passes * n_tokens
    seconds = work * seconds_per_token(selection) if work > LONG else 0.0
    takes = f": {n_tokens:,} tokens take about {duration(seconds)}" if seconds else ""
    with st.spinner(what + takes, show_time=bool(takes)):
        yield
    if len(waited) >= MOST_WAITED:
        waited.clear()
    waited.add((what, of))


def computed(asked: Hashable) -> Any | None:
    """Result that is kept for `asked`, or None; computes nothing."""
    return results().get(asked)


@st.cache_data(max_entries=8, show_spinner="Timing the base model")
def seconds_per_token(selection: Selection) -> float:
    """Seconds a token of one forward pass of the base model on this machine: the best of three runs."""
    import torch

    model = opened.opened_model(*selection.base)
    ids = torch.arange(2, 2 + min(128, model.context_length))[None].to(model.device)
    times = []
    for _ in range(3):
        with model.lock, torch.no_grad():
            started = time.monotonic()
            model.hf(input_ids=ids, use_cache=False).logits[0, -1, 0].item()
            times.append(time.monotonic() - started)
    return min(times) / ids.shape[1]

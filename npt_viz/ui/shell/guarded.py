"""Errors as sentences: a traceback goes to the server's log, never to the browser."""

import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from traceback import clear_frames

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.ui.shell.text import plain

_log = logging.getLogger("npt_viz.app")

MEMORY_ADVICE = "use fewer tokens or layers, a checkpoint of lower rank or a model in bfloat16, or release the model in the sidebar"


@contextmanager
def guarded() -> Iterator[None]:
    """Show a NptVizError inside the block as its sentence, anything unexpected as one sentence with a log id.

    Streamlit stops and reruns a script with exceptions of its own that are no `Exception`: they pass.
    """
    try:
        yield
    except NptVizError as error:
        problem(str(error))
    except Exception:
        problem(f"{unforeseen()}. Change an input or reload the page to go on.")


def guarded_callback(function: Callable[..., None]) -> Callable[..., None]:
    """A callback of a widget inside `guarded`: what it says stands above the page."""

    @wraps(function)
    def calm(*args, **kwargs) -> None:
        with guarded():
            function(*args, **kwargs)

    return calm


def unforeseen() -> str:
    """Sentence for the exception that is being handled: lack of memory, or the number under which the log has it."""
    # Here, so that a page paints before torch is loaded.
    from npt_viz.model.memory import is_out_of_memory, out_of_memory_sentence

    error = sys.exception()
    if error is not None and is_out_of_memory(error):
        _log.warning("out of memory", exc_info=error)
        clear_frames(error.__traceback__)
        return out_of_memory_sentence(error, "what this page asks for", MEMORY_ADVICE)
    number = secrets.token_hex(4)
    _log.exception("unexpected error %s", number)
    return (
        f"Something went wrong that npt_viz did not foresee; the server's log has the details under {number}"
    )


def problem(sentence: str) -> None:
    """Show the sentence of a NptVizError, exactly."""
    st.error(plain(sentence), icon=":material/error:")

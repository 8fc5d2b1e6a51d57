"""Errors as sentences: a traceback goes to the server's log, never to the browser."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.ui.shell.text import plain

_log = logging.getLogger("npt_viz.app")


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


def unforeseen() -> str:
    """Sentence for the exception that is being handled, with the number under which the log has it."""
    number = secrets.token_hex(4)
    _log.exception("unexpected error %s", number)
    return (
        f"Something went wrong that npt_viz did not foresee; the server's log has the details under {number}"
    )


def problem(sentence: str) -> None:
    """Show the sentence of a NptVizError, exactly."""
    st.error(plain(sentence), icon=":material/error:")

"""Silence the progress bars and the advice of transformers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

_switches = threading.RLock()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside the block transformers logs errors only and draws no progress bars; afterwards as before.

    One thread at a time: the switches are global, and two would restore each other's.
    """
    with _switches:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()

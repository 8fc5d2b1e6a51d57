"""Life of the server: what it does before the first visitor comes, and when it is told to stop."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    """For st.App. A server that is sent SIGTERM ends by it: what waits for the end of Python would not happen."""
    answer_at_once()
    threading.Thread(target=_head_start, name="npt_viz head start", daemon=True).start()
    yield
    if (owners := sys.modules.get("npt_viz.ui.cache.owner")) is not None:
        await asyncio.to_thread(owners.farewell)


def _head_start() -> None:
    """Import torch and transformers while the first visitor's browser still loads the page."""
    import npt_viz.capture.inspection
    import npt_viz.capture.opening
    import npt_viz.model.opening
    import npt_viz.ui.shell.frame  # noqa: F401


def answer_at_once() -> None:
    """Have the connections of this process's listening sockets send what they are given without waiting for more.

    The socket that Streamlit binds names no protocol, so asyncio does not do it: a file's body then waits for the browser
    to acknowledge its header, 40 ms, and a message of the websocket for the one before it. A connection inherits it.
    """
    for number in range(_SOCKETS):
        with suppress(OSError), socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as each:
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


_SOCKETS = 256
"""File descriptors that are looked at: the server opens its socket among its first files."""

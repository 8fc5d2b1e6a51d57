"""Life of the server: what it does before the first visitor comes, and when it is told to stop."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    """For st.App. A server that is sent SIGTERM ends by it: what waits for the end of Python would not happen."""
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

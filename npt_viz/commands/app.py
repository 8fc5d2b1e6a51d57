"""The app in the browser."""

from typing import Annotated

import typer

from npt_viz.commands._extras import APP, missing


def run(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="M", help="Base model that it opens first: smollm2-135m, a hub id, a path."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="C", help="NPT checkpoint that it opens first."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="8501 or the next free one by default."),
    ] = None,
) -> None:
    """Serve the app on this machine and print its address; paths are relative to the current folder."""
    import os
    import sys
    from importlib.util import find_spec

    from npt_viz.places import OPENED_FIRST, ROOT

    for library in APP:
        if find_spec(library) is None:
            raise missing(library)
    # Streamlit reads the settings in .streamlit/ beside the script, wherever it is started.
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    if port:
        command += ["--server.port", str(port)]
    first = {OPENED_FIRST["model"]: model, OPENED_FIRST["checkpoint"]: checkpoint}
    os.execve(sys.executable, command, os.environ | {name: value for name, value in first.items() if value})

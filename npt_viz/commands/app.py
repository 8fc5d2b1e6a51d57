"""The app in the browser."""

from pathlib import Path
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
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            metavar="DIR",
            help="Folder that keeps what browsers must not lose; npt_viz in the user's data folder by default.",
        ),
    ] = None,
    workspace_gb: Annotated[
        float | None,
        typer.Option("--workspace-gb", min=0.01, help="Gigabytes that it may take; 5 by default."),
    ] = None,
    idle_hours: Annotated[
        float | None,
        typer.Option(
            "--idle-hours", min=0.01, help="Hours that a training goes on without a tab; 12 by default."
        ),
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
    from npt_viz.workspace import place

    for library in APP:
        if find_spec(library) is None:
            raise missing(library)
    # Streamlit reads the settings in .streamlit/ beside the script, wherever it is started.
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    if port:
        command += ["--server.port", str(port)]
    said = {
        OPENED_FIRST["model"]: model,
        OPENED_FIRST["checkpoint"]: checkpoint,
        place.FOLDER_VARIABLE: workspace,
        place.LIMIT_VARIABLE: workspace_gb,
        place.IDLE_VARIABLE: idle_hours,
    }
    os.execve(
        sys.executable, command, os.environ | {name: str(value) for name, value in said.items() if value}
    )

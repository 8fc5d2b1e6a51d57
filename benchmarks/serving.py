"""A Streamlit script in a server of its own, and a Chromium to visit it: for benchmarks, screenshots and browser tests."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npt_viz.places import ROOT

PATIENCE = 120
"""Seconds until a server has to answer; a busy machine is no fault of the app."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Arguments of Chromium: no request of its own leaves the machine."""


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(script: str = "app.py", folder: str | Path = ROOT, /, **environment: str) -> Iterator[str]:
    """Address of a fresh server that ends with the block.

    script: what it serves. folder: where it is started; the root of the project.
    environment: variables of the server beside those of this process; without NPT_VIZ_WORKSPACE its workspace is a
    folder that goes with it, never the user's own.
    Raises RuntimeError where it does not answer within PATIENCE.
    """
    with (
        tempfile.TemporaryDirectory(prefix="npt_viz-", ignore_cleanup_errors=True) as workspace,
        _served(script, folder, {"NPT_VIZ_WORKSPACE": workspace} | environment) as address,
    ):
        yield address


@contextmanager
def _served(script: str, folder: str | Path, environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(20 * PATIENCE):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise RuntimeError(f"the app does not answer at {address} after {PATIENCE} s")
        yield address
    finally:
        server.terminate()
        server.wait(30)

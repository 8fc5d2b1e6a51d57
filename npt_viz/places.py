"""Where the files beside the package lie: app.py, pages/, the Streamlit settings and the demo checkpoints."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_A_WHEEL = _PACKAGE / "site"

ROOT = _IN_A_WHEEL if (_IN_A_WHEEL / "app.py").exists() else _PACKAGE.parent
"""The repository; in an installed package the folder into which the wheel puts these files."""

OPENED_FIRST = {"model": "NPT_VIZ_MODEL", "checkpoint": "NPT_VIZ_CHECKPOINT"}
"""What a session of the app opens -> the environment variable by which `npt-viz app` names it."""


def located(path: str | Path) -> Path:
    """The path itself, from the current folder; `checkpoints/<demo>` also where only ROOT has it."""
    given = Path(path).expanduser()
    beside = ROOT / given
    return beside if not given.exists() and beside.exists() else given

"""Where the files beside the package lie: app.py, pages/, the Streamlit settings and the demo checkpoints."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_A_WHEEL = _PACKAGE / "site"

ROOT = _IN_A_WHEEL if (_IN_A_WHEEL / "app.py").exists() else _PACKAGE.parent
"""The repository; in an installed package the folder into which the wheel puts these files."""

DEMO_CHECKPOINTS = ROOT / "checkpoints"

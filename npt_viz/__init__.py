"""See, train, compare and edit NPT layers: attention turned into per-token low-rank changes of the MLP weights.

The public names are listed, with a line each, in npt_viz/__init__.pyi. Each is imported when it is first used:
`import npt_viz` loads neither torch nor transformers.
"""

import ast
from importlib import import_module
from pathlib import Path

_HOMES = {
    alias.name: statement.module
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(statement, ast.ImportFrom) and statement.module
    for alias in statement.names
}
"""Public name -> the module that has it."""

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"npt_viz has no {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

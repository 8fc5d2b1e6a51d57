"""The rooms of the UI: which imports which, how a page's folder is split, and what pages take from `npt_viz.ui`."""

import ast

import pytest

from npt_viz import ui
from npt_viz.places import ROOT

UI = ROOT / "npt_viz/ui"
SHARED = ("cache", "shell", "widgets")
"""Rooms that every page may use, lowest first."""
BESIDE = {("experiments", "train")}
"""(page, other page that it may import from)."""
GROUPS = {"inspect", "edit"}
"""Rooms with a folder for each page."""
UNSPLIT = {"train", "experiments"}
"""Rooms that are not yet split into state, controls and panels."""

MODULES = sorted(path for path in UI.rglob("*.py") if path.parent != UI)


def room_of(parts: tuple[str, ...]) -> str:
    """cache, home or inspect/directions, of the parts of a module's name below npt_viz.ui."""
    return "/".join(parts[:2]) if parts[0] in GROUPS else parts[0]


def rooms_imported(path) -> set[str]:
    """Rooms that a file imports from, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    below = [name.split(".")[2:] for name in names if name.startswith("npt_viz.ui.")]
    return {room_of(tuple(parts)) for parts in below}


def name_of(path) -> str:
    return path.relative_to(UI).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_itself_and_the_rooms_below(path):
    room = room_of(path.relative_to(UI).parts)
    for other in rooms_imported(path) - {room}:
        if room in SHARED:
            assert other in SHARED[: SHARED.index(room)], f"{room} is not above {other}"
        else:
            assert other in SHARED or (room, other) in BESIDE, f"{room} does not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_page_is_split_into_state_controls_and_panels(path):
    room = room_of(path.relative_to(UI).parts)
    if room not in {*SHARED, *UNSPLIT}:
        allowed = path.stem in {"__init__", "state", "controls", "panels"} or path.stem.startswith("panels_")
        assert allowed, f"{path.name} is none of state.py, controls.py, panels.py, panels_<part>.py"


def test_state_draws_on_no_panel_and_controls_on_none():
    """Within a page the order is state < controls < panels."""
    order = ("state", "controls", "panels")
    for path in MODULES:
        own = order.index(path.stem) if path.stem in order else len(order)
        folder = ".".join(path.parent.relative_to(ROOT).parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.rpartition(".")[0] == folder:
                last = node.module.rpartition(".")[2]
                if last in order and path.stem in order:
                    assert order.index(last) < own, f"{name_of(path)} imports {last}"


def test_the_package_re_exports_what_pages_use_and_nothing_else():
    used = {
        node.attr
        for path in (ROOT / "pages").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ui"
    }
    assert used == set(ui.__all__)

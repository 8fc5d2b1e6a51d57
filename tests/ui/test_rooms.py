"""The rooms of the UI: which imports which, how a page's folder is split, and what pages take from `npt_viz.ui`."""

import ast

import pytest

from npt_viz import ui
from npt_viz.places import ROOT

UI = ROOT / "npt_viz/ui"
SHARED = ("cache", "shell", "widgets")
"""Rooms that every page may use, lowest first."""
ORDER = ("state", "job", "controls", "panels")
"""Modules of a page, lowest first; job: work that goes on between reruns."""
BESIDE = {("experiments", "train")}
"""(page, other page that it may import from)."""
GROUPS = {"inspect", "edit"}
"""Rooms with a folder for each page."""
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
    if room not in SHARED:
        whole, _, part = path.stem.partition("_")
        allowed = path.stem == "__init__" or (whole in ORDER and (part or "_" not in path.stem))
        assert allowed, f"{path.name} is none of {', '.join(ORDER)} (controls_<part>, panels_<part>)"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_within_a_page_state_imports_no_controls_and_controls_no_panels(path):
    folder = ".".join(path.parent.relative_to(ROOT).parts)
    own = path.stem.partition("_")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(folder + "."):
            other = node.module.removeprefix(folder + ".").partition("_")[0]
            if {own, other} <= set(ORDER):
                assert ORDER.index(other) <= ORDER.index(own), f"{own} imports {other}"


def test_the_package_re_exports_what_pages_use_and_nothing_else():
    used = {
        node.attr
        for path in (ROOT / "pages").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ui"
    }
    assert used == set(ui.__all__)

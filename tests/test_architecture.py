"""Imports point down, and each library has one home. Imports inside functions count too."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    {
        "arguments",
        "errors",
        "files",
        "identity",
        "next_token",
        "places",
        "progress",
        "question",
        "reproducing",
        "results",
        "shapes",
        "texts",
        "workspace",
        "data",
    },
    {"adapter"},
    {"model", "checkpoint"},
    {"capture"},
    {"analysis", "training", "editing"},
    {"experiments", "runs", "scanning"},
)
"""The numerics, lowest first: a package imports its own layer and those below it."""

NUMERICS = set().union(*LAYERS)
ABOVE = {"figures", "ui", "server", "commands", "__main__"}

HOMES = {
    "streamlit": ("npt_viz/ui", "npt_viz/server", "pages", "app.py"),
    "starlette": ("npt_viz/server", "app.py"),
    "plotly": ("npt_viz/figures", "npt_viz/ui"),
    "captum": ("npt_viz/analysis/attribution.py", "npt_viz/analysis/attribution"),
    "ray": ("npt_viz/scanning/cluster.py",),
    "typer": ("npt_viz/commands", "npt_viz/__main__.py"),
}
"""Library -> the only places that import it."""

ALONE = {"captum", "jaxtyping", "pandas", "plotly", "pyarrow", "ray", "starlette", "streamlit"}
"""What a bare GPU box may lack."""


def sources():
    yield from sorted((ROOT / "npt_viz").rglob("*.py"))
    yield from sorted((ROOT / "pages").rglob("*.py"))
    yield from (path for path in [ROOT / "app.py"] if path.exists())


@cache
def import_statements(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Those of a file, wherever in it; each file is parsed once for all tests."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def imports(path: Path):
    """Dotted names of everything a file imports."""
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit_of(dotted: str) -> str | None:
    """The part of npt_viz that a module belongs to: adapter, figures, errors …"""
    first, _, rest = dotted.partition(".")
    return rest.partition(".")[0] if first == "npt_viz" and rest else None


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def level(unit: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if unit in layer), None)


def own_imports(path: Path) -> set[str]:
    """The parts of npt_viz that a file imports from."""
    units = {unit_of(name) for name in imports(path)} - {None}
    return {unit for unit in units if unit in NUMERICS | ABOVE}


def module_imports() -> dict[str, set[str]]:
    """Module of npt_viz -> the modules of npt_viz it imports, wherever in it, for type checkers too."""
    paths = {module_of(p).removesuffix(".__init__"): p for p in sources() if unit_of(module_of(p))}
    graph = {}
    for name, path in paths.items():
        graph[name] = set()
        for node in import_statements(path):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names if alias.name in paths}
            else:
                # A submodule, or else a name that the module itself has.
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= parts & paths.keys()
                graph[name] |= {node.module} & paths.keys() if parts - paths.keys() else set()
        graph[name].discard(name)
    return graph


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of more than one node in which each reaches every other: the strongly connected components."""
    reached: dict[str, set[str]] = {}
    for node in graph:
        reached[node], waiting = set(), [node]
        while waiting:
            fresh = graph[waiting.pop()] - reached[node]
            reached[node] |= fresh
            waiting += fresh
    return {frozenset(m for m in reached[n] if n in reached[m]) for n in graph if n in reached[n]}


def test_no_modules_import_each_other_in_a_circle():
    assert circles(module_imports()) == set()


def test_a_circle_is_seen():
    chain = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"e"}, "e": {"f"}, "f": {"d"}, "g": set()}
    assert circles(chain) == {frozenset("bc"), frozenset("def")}
    graph = module_imports()
    assert len(graph) > 100
    assert "npt_viz.checkpoint.report" in graph["npt_viz.checkpoint.opening"], "a plain import"
    assert "npt_viz.capture.running" in graph["npt_viz.ui.cache.opened"], "one for type checkers"
    assert "npt_viz.model.tokens" in graph["npt_viz.model.packaged"], "one in a function"


def test_every_part_of_the_package_has_a_place():
    parts = {
        p.stem if p.is_file() else p.name for p in (ROOT / "npt_viz").iterdir() if p.name != "__pycache__"
    }
    assert parts - {"__init__", "py"} <= NUMERICS | ABOVE


@pytest.mark.parametrize("path", list(sources()), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    unit, needed = unit_of(module_of(path)), own_imports(path)
    if unit in NUMERICS:
        upward = {other for other in needed if level(other) is None or level(other) > level(unit)}
        assert not upward, f"{unit} is below {upward}"
    if unit == "figures":
        assert needed <= {"figures", "results", "errors"}
        assert "torch" not in {name.partition(".")[0] for name in imports(path)}
    if unit == "commands":
        assert not needed & {"ui"}


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    for path in sources():
        where = path.relative_to(ROOT).as_posix()
        if any(where == home or where.startswith(home + "/") for home in HOMES[library]):
            continue
        assert library not in {name.partition(".")[0] for name in imports(path)}, where


def test_pages_compute_nothing():
    """A page is a description of the UI: it imports neither torch nor the numerics that need it."""
    for path in sources():
        if "npt_viz" not in path.parts[len(ROOT.parts) :]:
            libraries = {name.partition(".")[0] for name in imports(path)}
            assert not libraries & {"torch", "transformers", "safetensors"}, path


@pytest.mark.slow
def test_numerics_import_on_a_machine_without_pictures():
    """Blocked: pandas and jaxtyping as well, which numerics may only use where they are."""
    modules = [
        module_of(path).removesuffix(".__init__")
        for path in sources()
        if unit_of(module_of(path)) in NUMERICS and "attribution" not in path.as_posix()
    ]
    program = f"""
import importlib, sys
# To the import system None means: there is no such module.
sys.modules.update(dict.fromkeys({sorted(ALONE)!r}))
for module in {["npt_viz", *modules]!r}:
    importlib.import_module(module)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(modules) > 10


def test_the_package_itself_imports_without_torch():
    """`import npt_viz` and the first paint of the app must not wait for it."""
    program = "import sys, npt_viz; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

"""The order of the modules in npt_viz/editing, as its docstring lists it."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import npt_viz.editing

ROOM = Path(npt_viz.editing.__file__).parent
ORDER = re.findall(r"^    (\w+)   *\S", npt_viz.editing.__doc__, re.M)


def imports() -> dict[str, set[str]]:
    """Module -> the modules of npt_viz.editing that it imports, TYPE_CHECKING and functions included."""
    files = {".".join(path.relative_to(ROOM).with_suffix("").parts): path for path in ROOM.rglob("*.py")}
    graph = {}
    for module, path in files.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[module] = {name.removeprefix("npt_viz.editing.") for name in names} & set(files)
    return graph


def test_every_module_imports_only_what_the_docstring_lists_above_it():
    places = {name: i for i, name in enumerate(ORDER)}
    graph = {name: needed for name, needed in imports().items() if not name.endswith("__init__")}
    assert {name.partition(".")[0] for name in graph} == set(ORDER)
    for module, needed in graph.items():
        room = module.partition(".")[0]
        others = {name.partition(".")[0] for name in needed} - {room}
        above = {other for other in others if places[other] >= places[room]}
        assert not above, f"{module} imports {above}"
    assert sum(map(len, graph.values())) > 30


def test_no_modules_import_each_other_in_a_circle():
    """Inside a folder too, where the order of the list says nothing. static_order raises CycleError."""
    assert len(list(TopologicalSorter(imports()).static_order())) > len(ORDER)

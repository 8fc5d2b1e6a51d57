"""Nothing that a page imports waits for torch."""

import json
import subprocess
import sys

from npt_viz.places import ROOT

SCRIPT = """
import ast, json, sys
loaded = {}
for path in sys.argv[1:]:
    before = set(sys.modules)
    tree = ast.parse(open(path, encoding="utf-8").read())
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), path, "exec"))
    loaded[path] = sorted({"torch", "transformers", "captum"} & (set(sys.modules) - before))
print(json.dumps(loaded))
"""


def test_importing_what_a_page_imports_loads_no_torch():
    """One process for all pages: the first page that loads a library is named with it."""
    paths = [str(path) for path in (ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py")))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *paths],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert len(loaded) > 10
    assert {path: names for path, names in loaded.items() if names} == {}

"""Nothing that a page imports waits for torch."""

import subprocess
import sys

import pytest

from npt_viz.places import ROOT

SCRIPT = """
import ast, sys
tree = ast.parse(open(sys.argv[1], encoding="utf-8").read())
imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
exec(compile(ast.Module(imports, []), sys.argv[1], "exec"))
print(sorted({"torch", "transformers", "captum"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "path", [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))], ids=lambda p: p.stem
)
def test_importing_what_a_page_imports_loads_no_torch(path):
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert found.stdout.strip() == "[]"

"""docs/formats.md claims nothing that no test holds."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_tables_name_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")))
    existing = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 30
    assert named <= existing, named - existing

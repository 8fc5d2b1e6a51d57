"""docs/formats.md claims nothing that no test holds."""

import ast
import re
from pathlib import Path

from benchmarks.said_of_files import END, ROWS, START, renewed

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


def test_the_table_of_what_is_said_of_files_is_what_is_said():
    document = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert renewed(document) == document, "python -m benchmarks.said_of_files --write"
    assert document.partition(START)[2].partition(END)[0].count("\n") == len(ROWS) + 2

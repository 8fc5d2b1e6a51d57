"""Every page file is listed, and every page file begins with the guard."""

import ast

import pytest

from npt_viz.ui.shell import nav


@pytest.fixture
def listed(monkeypatch) -> list[dict]:
    """The pages as they are handed to Streamlit, in order."""
    monkeypatch.setattr(nav.st, "Page", lambda path, **settings: {"path": path, **settings})
    return [page for group in nav.pages().values() for page in group]


def test_the_listed_pages_are_the_files(listed):
    assert {page["path"] for page in listed} == set((nav.ROOT / "pages").glob("*.py"))


def test_a_page_is_found_under_its_files_name(listed):
    """Where the two differ, a cold deep link shows 'Page not found' over the right page."""
    assert [page["url_path"] for page in listed] == [page["path"].stem for page in listed]


def test_home_comes_first_and_is_where_the_root_leads(listed):
    assert listed[0]["title"] == "Home" and [page["default"] for page in listed].index(True) == 0


def test_every_page_calls_the_guard_before_anything_else():
    for path in (nav.ROOT / "pages").glob("*.py"):
        statements = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if not isinstance(node, ast.Import | ast.ImportFrom)
            and ast.get_docstring(ast.Module([node], [])) is None
        ]
        assert ast.unparse(statements[0]) == "ui.require_app()", path.name

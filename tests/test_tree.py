"""What holds for the whole tree: tests lie where the code lies, commands are listed, nothing of one machine is in it."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    """Committed text files; all files where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and b"\0" not in file.read_bytes()[:8192]]


def committed_tests() -> list[Path]:
    return [
        file for file in tracked() if file.is_relative_to(ROOT / "tests") and file.name.startswith("test_")
    ]


def test_tests_lie_where_the_code_lies():
    for test in committed_tests():
        folder = test.relative_to(ROOT / "tests").parent
        assert folder.name in ("", "browser") or (ROOT / "npt_viz" / folder).is_dir(), test


def test_help_lists_every_command():
    text = (ROOT / "Makefile").read_text()
    commands = re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for command in commands:
        assert re.search(rf"^  make {command} +\S", shown, re.M), command


def test_ci_runs_what_a_developer_types():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    lines = [
        line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert lines == ["make setup model browser", "make test", "make check"]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_plain_and_bounded(name):
    """So that uv reads them too, and no later major version breaks an old clone."""
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r requirements.txt")):
            operators = {specifier.operator for specifier in Requirement(line).specifier}
            assert operators in ({"=="}, {">=", "<"}), line


def test_the_server_stays_on_this_machine_and_tells_nobody():
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert set(config["server"]["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert config["server"]["enableXsrfProtection"] is True
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] == "none"


def test_nothing_of_one_machine_is_in_the_tree():
    paths = re.compile(r"(?<![\w.])/(?:work|root|tmp)/[\w.]")
    found = {
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in tracked()
        if file != Path(__file__) and file.suffix not in {".jsonl", ".json"}
        for match in paths.finditer(file.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_links_between_documents_lead_somewhere():
    documents = [file for file in tracked() if file.suffix == ".md"]
    assert documents
    for document in documents:
        prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.relative_to(ROOT)}: {target}"


def test_paths_named_in_documents_exist():
    """`npt_viz/x.py`, `tests/y.py` in backticks."""
    for document in (file for file in tracked() if file.suffix == ".md"):
        for path in re.findall(
            r"`((?:npt_viz|tests|benchmarks|docs|pages|checkpoints)/[\w./]+)`", document.read_text()
        ):
            assert (ROOT / path).exists(), f"{document.relative_to(ROOT)}: {path}"

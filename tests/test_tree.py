"""What holds for the whole tree: tests lie where the code lies, commands are listed, nothing of one machine is in it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from test_architecture import imports

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


def ranges() -> list[Requirement]:
    """Every range in pyproject.toml, of the core and of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    return [wanted for wanted in map(Requirement, lines) if wanted.name != project["name"]]


def bound(wanted: Requirement, operator: str) -> Version:
    return next(Version(each.version) for each in wanted.specifier if each.operator == operator)


def versions(name: str) -> dict[str, Version]:
    """Distribution -> its version in a lock; the lowest where it depends on the Python version."""
    found: dict[str, Version] = {}
    for line in (ROOT / name).read_text().splitlines():
        if not line.startswith("#"):
            wanted = Requirement(line)
            version = Version(str(wanted.specifier).removeprefix("=="))
            key = canonicalize_name(wanted.name)
            found[key] = min(version, found.get(key, version))
    return found


def test_a_range_has_two_ends():
    assert len(ranges()) > 20
    for wanted in ranges():
        assert {each.operator for each in wanted.specifier} == {">=", "<"}, wanted


def test_a_range_begins_where_test_lowest_runs():
    lowest = versions("constraints-lowest.txt")
    for wanted in ranges():
        assert bound(wanted, ">=") == lowest[canonicalize_name(wanted.name)], wanted


SEEN_ABOVE_THE_LOCK = {"torch": Version("2.14.1")}
"""The lock stays at the build of CI's machine; `make test-latest` ran this one."""

RELIED_ON = {"torch", "transformers", "streamlit", "plotly", "captum", "accelerate", "safetensors"}
"""A minor release of these may change what we compute or draw."""


def test_a_range_ends_at_the_release_after_the_newest_that_was_seen():
    lock = versions("constraints.txt")
    for wanted in ranges():
        name = canonicalize_name(wanted.name)
        seen = SEEN_ABOVE_THE_LOCK.get(name, lock[name])
        by_minor = name in RELIED_ON or seen.major == 0
        following = f"{seen.major}.{seen.minor + 1}" if by_minor else f"{seen.major + 1}"
        assert lock[name] in wanted.specifier, f"{wanted}: the lock has {lock[name]}; run make lock"
        assert seen < bound(wanted, "<") <= Version(following), wanted


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_a_lock_holds_on_every_machine(name):
    """Plain versions: no index, no file, no build of one platform (2.13.0+cpu)."""
    for line in (ROOT / name).read_text().splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[\w.]+( ; .*)?", line), line


def test_what_the_package_imports_is_what_it_requires():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["app"], *extras["cluster"]]
    required = {Requirement(line).name.replace("-", "_") for line in required}
    files = [*(ROOT / "npt_viz").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]
    roots = {name.partition(".")[0] for file in files for name in imports(file)}
    # transformers needs accelerate for device_map and gguf for .gguf files; npt_viz/shapes.py does without jaxtyping.
    assert roots - set(sys.stdlib_module_names) - {"npt_viz"} == required - {"accelerate", "gguf"} | {
        "jaxtyping"
    }


def test_the_one_line_install_is_the_app_at_the_locked_versions():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-c constraints.txt", "-e .[app]"]


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

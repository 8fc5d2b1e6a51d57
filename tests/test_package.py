"""The package as others get it: public names, the command `npt-viz app`, and a wheel installed without the repository."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

import npt_viz
from benchmarks.serving import free_port
from npt_viz.__main__ import main
from npt_viz.commands._extras import APP
from npt_viz.places import ROOT, located

REPOSITORY = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there():
    for name in npt_viz.__all__:
        home = sys.modules.get(getattr(npt_viz, name).__module__)
        assert getattr(home, name) is getattr(npt_viz, name)
    assert dir(npt_viz) == npt_viz.__all__
    with pytest.raises(AttributeError, match="npt_viz has no opne_model"):
        npt_viz.opne_model  # noqa: B018


def test_every_public_name_has_its_line_and_is_seen_by_type_checkers():
    """`import x as x` is how a stub gives a name away."""
    lines = (REPOSITORY / "npt_viz/__init__.pyi").read_text(encoding="utf-8").splitlines()
    statements = [i for i, line in enumerate(lines) if line.startswith("from ")]
    assert len(statements) == len(npt_viz.__all__) > 20
    for i in statements:
        (alias,) = ast.parse(lines[i]).body[0].names
        assert alias.name == alias.asname and lines[i - 1].startswith("# "), lines[i]


def test_snippets_of_pages_take_public_names_only():
    """Texts in npt_viz/ui that are Python: no import but that of npt_viz, no name that it does not give away."""
    used = set()
    for path in [*(REPOSITORY / "npt_viz/ui").rglob("*.py"), REPOSITORY / "npt_viz/reproducing.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                first, _, rest = node.value.strip().partition(" ")
                assert not (first == "from" and " import " in rest), f"{path}: {node.value}"
                for part in node.value.split("npt_viz.")[1:]:
                    if "(" in part:
                        used.add(part.partition("(")[0])
    assert {"open_model", "inspect", "directions", "orthogonality", "reference_vectors", "read_run"} <= used
    assert used <= set(npt_viz.__all__)


def test_demo_checkpoints_are_found_from_any_folder(tmp_path, monkeypatch):
    demo = "checkpoints/smollm2-135m-gate-15"
    monkeypatch.chdir(tmp_path)
    assert located(demo) == ROOT / demo
    assert located("nowhere/at/all") == Path("nowhere/at/all")
    (tmp_path / demo).mkdir(parents=True)
    assert located(demo) == Path(demo)


# npt-viz app

NEEDS_PLOTLY = 'npt_viz: this needs plotly, which is not installed: pip install "npt_viz[app]"\n'


@pytest.fixture
def started(monkeypatch):
    """The programs that were started in place of this one: (arguments, environment)."""
    calls = []
    monkeypatch.setattr(
        os, "execve", lambda path, arguments, environment: calls.append((arguments, environment))
    )
    return calls


def test_app_starts_streamlit_with_what_it_opens_first(started):
    assert main(["app", "--port", "8765", "--model", "a/model", "--checkpoint", "a/checkpoint"]) == 0
    ((arguments, environment),) = started
    streamlit = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    assert arguments == [*streamlit, "--server.port", "8765"]
    assert environment["NPT_VIZ_MODEL"] == "a/model" and environment["NPT_VIZ_CHECKPOINT"] == "a/checkpoint"
    assert environment["PATH"] == os.environ["PATH"]


def test_app_without_options_changes_nothing(started):
    assert main(["app"]) == 0
    ((arguments, environment),) = started
    assert arguments[-1] == str(ROOT / "app.py") and environment == os.environ


def test_app_without_its_libraries_says_how_to_get_them(started, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "plotly" else object())
    assert main(["app"]) == 1
    assert capsys.readouterr().err == NEEDS_PLOTLY
    assert not started


def test_a_command_without_a_library_of_the_app_says_how_to_get_it(monkeypatch, capsys):
    def report():
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")

    monkeypatch.setattr("npt_viz.commands.runs.run", report)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == NEEDS_PLOTLY


def test_the_extra_has_what_the_sentence_promises():
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "app"
    ]
    assert [re.match(r"\w+", line)[0] for line in extra] == list(APP)


OPENED = """
import os, sys
from streamlit.testing.v1 import AppTest
from npt_viz.commands._extras import APP
from npt_viz.places import ROOT

session = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
assert not session.exception, session.exception
print(session.session_state["model"], session.session_state["checkpoint"], sorted(session.query_params))
print(sorted(page.name for page in (ROOT / "pages").glob("*.py")))
"""
"""The app's first page on a model that is not there: what it opens, what its address says, and the pages beside it."""


def outside(folder: Path, **environment: str) -> dict:
    """How a program runs that knows nothing of the repository."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {"cwd": folder, "env": clean | environment, "text": True, "stdin": subprocess.DEVNULL}


def opened(python: str | Path, folder: Path, **environment: str) -> list[str]:
    """The lines that OPENED prints."""
    done = subprocess.run([python, "-c", OPENED], capture_output=True, **outside(folder, **environment))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_app_opens_what_it_was_started_with(tmp_path):
    first, _ = opened(
        sys.executable,
        tmp_path,
        PYTHONPATH=str(REPOSITORY),
        NPT_VIZ_MODEL="/nowhere/model",
        NPT_VIZ_CHECKPOINT="mine",
    )
    assert first == "/nowhere/model mine ['checkpoint', 'model']"


@pytest.mark.slow
def test_a_wheel_is_all_that_the_app_needs(tmp_path):
    """Built and installed with no network and no copy of torch: the libraries of this environment lend theirs."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, REPOSITORY], check=True
    )
    (wheel,) = tmp_path.glob("npt_viz-*.whl")
    venv.create(tmp_path / "empty", with_pip=False)
    python, command = tmp_path / "empty/bin/python", tmp_path / "empty/bin/npt-viz"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    # A .pth below this folder is not read, so an editable npt_viz of this environment stays invisible.
    site = next((tmp_path / "empty/lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = [python, "-c", "import npt_viz; print(npt_viz.__file__)"]
    assert subprocess.check_output(here, **outside(elsewhere)).startswith(str(site))
    shown = subprocess.check_output([command, "--help"], **outside(elsewhere))
    assert "  app " in shown and "  inspect " in shown
    assert (site / "npt_viz/py.typed").exists() and (site / "npt_viz/site/.streamlit/config.toml").exists()

    first, pages = opened(python, elsewhere, NPT_VIZ_MODEL="/nowhere/model")
    assert first.split()[1].startswith("checkpoints/smollm2-135m-gate")
    assert ast.literal_eval(pages) == sorted(path.name for path in (REPOSITORY / "pages").glob("*.py"))

    port = free_port()
    server = subprocess.Popen(
        [command, "app", "--port", str(port)], stdout=subprocess.PIPE, **outside(elsewhere)
    )
    try:
        # Streamlit names this address only where config.toml holds; else it is localhost and all networks.
        assert next(line for line in server.stdout if "URL" in line).split() == [
            "URL:",
            f"http://127.0.0.1:{port}",
        ]
    finally:
        server.terminate()
        server.communicate()

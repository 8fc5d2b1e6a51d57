"""`npt_viz health`: findings as JSON on stdout, status 0 with findings, one sentence for bad input."""

import json
from pathlib import Path

import pytest
import torch

from npt_viz.__main__ import main

DEMOS = Path(__file__).resolve().parents[2] / "checkpoints"
KEYS = {"rule", "severity", "layer", "evidence", "meaning", "action"}


@pytest.fixture
def call(capsys):
    def called(*arguments: str) -> tuple[int, str, str]:
        status = main(["health", *map(str, arguments)])
        return status, *capsys.readouterr()

    return called


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The cat sat on the mat, and the dog did not. " * 8)
    return path


def test_findings_are_strict_json_and_no_failure(call, on_disk, text):
    status, out, _ = call(
        "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--text", text, "--json"
    )
    report = json.loads(out, parse_constant=pytest.fail)
    assert status == 0 and report["findings"], "random adapters are far from healthy"
    for finding in report["findings"]:
        assert set(finding) == KEYS and finding["severity"] in ("info", "warning", "error")
    worse = {f["layer"] for f in report["findings"] if f["rule"] == "worse_than_nothing"}
    assert worse == {1, 3}
    assert report["n_tokens"] == 2 * 97, "two windows of this model's context"


def test_people_get_meaning_evidence_and_action(call, on_disk, text):
    status, out, err = call("--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--text", text)
    assert status == 0
    assert "evidence: " in out and "try: " in out
    assert "note: what each layer's shape allows was not estimated" in err


def test_a_layer_that_cannot_run_is_a_finding_too(call, on_disk, text, tmp_path):
    weights = {"layer_2_np.W_down": torch.ones(24, 7), "layer_2_np.W_a_up": torch.ones(7, 24)}
    weights["layer_2_np.W_b_up"] = torch.full((7, 31), torch.nan)
    torch.save(weights, tmp_path / "npt_weights.pt")
    status, out, _ = call(
        "--model", on_disk.model, "--checkpoint", tmp_path / "npt_weights.pt", "--text", text, "--json"
    )
    found = json.loads(out)["findings"]
    assert status == 0
    assert (found[0]["rule"], found[0]["evidence"]["nan"]) == ("not_finite", 217)


def test_a_text_that_is_not_there_is_one_sentence(call, on_disk):
    status, out, err = call(
        "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--text", "nowhere.txt", "--json"
    )
    assert (status, out) == (1, "")
    assert err.startswith("npt_viz: nowhere.txt") and err.count("\n") == 1


def test_too_little_text_is_one_sentence(call, on_disk, tmp_path):
    (tmp_path / "short.txt").write_text("The cat sat.")
    status, _, err = call(
        "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--text", tmp_path / "short.txt"
    )
    assert status == 1 and "needs at least" in err


@pytest.mark.slow
def test_the_demo_with_the_fault_is_told_by_its_name(smollm2, call):
    """The healthy ones, without a finding: tests/analysis/test_health.py."""
    checkpoint = DEMOS / "smollm2-135m-gate+up-15-unhealthy-no-rope"
    _, out, _ = call("--model", "smollm2-135m", "--checkpoint", checkpoint, "--json")
    errors = [f["rule"] for f in json.loads(out)["findings"] if f["severity"] == "error"]
    assert errors == ["trained_without_rope"]

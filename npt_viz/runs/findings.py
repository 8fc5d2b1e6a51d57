"""Findings of health beside the log of a watched training: one line a look, the last one is how it is now."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from npt_viz.files import plain_json
from npt_viz.results.health import Finding

FINDINGS = "findings.jsonl"

_TAIL = 2**20
"""Bytes from the end in which the last line is looked for."""


def findings_line(step: int, findings: Sequence[Finding]) -> str:
    """A line of the file."""
    told = [plain_json(asdict(finding)) for finding in findings]
    return json.dumps({"step": step, "findings": told}, ensure_ascii=False) + "\n"


def findings_beside(log: Path) -> list[str]:
    """Sentences of the last look at the adapters of a run; nothing where there was none, or it cannot be read."""
    last = _last_line(log.parent / FINDINGS)
    try:
        looked = json.loads(last) if last else {}
        step, found = int(looked["step"]), [_sentence(each) for each in looked["findings"]]
    except (ValueError, TypeError, KeyError):
        return []
    if not found:
        return [f"Health at step {step:,}: no finding of a quick look."]
    return [f"Health at step {step:,}: {sentence}" for sentence in found]


def _sentence(finding: dict) -> str:
    where = "" if finding["layer"] is None else f" of layer {finding['layer']}"
    return f"{finding['severity']}{where}: {finding['meaning']} {finding['action']}"


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return ""
    return lines[-1].decode(errors="replace") if lines else ""

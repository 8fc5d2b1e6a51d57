"""Health: how many findings, from how much text. The meaning of a finding stands beside its rule (analysis/health)."""

from npt_viz.results.health import SEVERITIES, HealthReport
from npt_viz.results.sentences import Sentence, said, states
from npt_viz.results.words import counted

_NAMES = {"error": "error", "warning": "warning", "info": "remark"}


@states("health")
def health(report: HealthReport) -> Sentence:
    """How many findings of which severity, and what was read."""
    counts = [(len(report.of(severity)), _NAMES[severity]) for severity in SEVERITIES]
    findings = " and ".join(counted(n, name) for n, name in counts if n) or "No finding"
    if not report.layers:
        return said(f"{findings} (the file alone was judged: no layer was run).")
    return said(
        f"{findings} ({counted(len(report.layers), 'layer')}, {counted(report.n_tokens, 'token')} in "
        f"{counted(report.n_sequences, 'sequence')} of {report.texts}, {counted(report.n_sinks, 'sink')} of them; local, positions "
        "as deployed unless said otherwise)."
    )

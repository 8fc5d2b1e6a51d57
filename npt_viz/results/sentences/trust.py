"""Home: what was read of a checkpoint, and whether the numbers that follow can be trusted."""

from npt_viz.results.load_report import LoadReport
from npt_viz.results.parity import Check, Parity
from npt_viz.results.sentences import Exact, Sentence, Strong, said, states
from npt_viz.results.words import counted


@states("load")
def load(report: LoadReport) -> Sentence:
    """Tensors that are used, the reading of the layers and how it is known, and whether the base model is the right one."""
    start = report.sentence[0].upper() + report.sentence[1:]
    match = report.base_match.sentence
    return said(f"{start}. ", Exact(match[0].upper() + match[1:]), ".")


@states("parity")
def parity(result: Parity) -> Sentence:
    """Whether the equalities hold, with the difference that was measured and the largest that is rounding."""
    n = len(result.checks)
    layers = f"layer{'s' * (len(result.layers) > 1)} {', '.join(map(str, result.layers))}"
    where = (
        f"({layers} run for real, positions as deployed, {counted(result.n_tokens, 'token')} of prompt, ΔW written out at "
        f"#{result.token}, {result.dtype})"
    )
    if failed := result.failed:
        fail = "fails" if len(failed) == 1 else "fail"
        parts = "; ".join(map(_measured, failed))
        return said("Parity is ", Strong("broken"), f": {len(failed)} of {n} checks {fail} {where}: {parts}.")
    return said(
        "Parity ",
        Strong("holds"),
        f" in all of {n} checks {where}: {'; '.join(map(_measured, result.checks))}.",
    )


def _measured(check: Check) -> str:
    allowed = "0 allowed" if check.tolerance == 0 else f"{check.tolerance:.2g} allowed"
    return f"{check.name}: {check.measured:.2g} {check.unit} ({allowed})"

"""The rules that read the load report alone, which hold before anything is run; and the one on what cannot run."""

import re
from collections.abc import Iterator

from npt_viz.errors import NotFiniteError
from npt_viz.results.health import Finding
from npt_viz.results.load_report import LayerReport, LoadReport
from npt_viz.results.words import counted


def of_file(load: LoadReport) -> Iterator[Finding]:
    """Another base model, tensors that nothing uses."""
    if load.base_match.status == "mismatch":
        yield Finding(
            rule="wrong_base",
            severity="error",
            layer=None,
            evidence={"matches": 0.0},
            meaning=f"{load.base_match.sentence}.",
            action="Open the base model that the checkpoint was made for.",
        )
    if load.unused:
        yield Finding(
            rule="left_over",
            severity="warning",
            layer=None,
            evidence={"tensors": float(load.tensors_total), "left_over": float(len(load.unused))},
            meaning=f"{len(load.unused)} of {load.tensors_total} tensors belong{'s' * (len(load.unused) == 1)} to no NPT layer that was recognised, "
            f"the first is {load.unused[0]}: a part of what was trained may not run.",
            action="Compare the names on Home with those of docs/formats.md; rename them or save the run again.",
        )


def of_weights(report: LayerReport) -> Iterator[Finding]:
    """Weights that cannot run, weights that training has not touched."""
    if not report.finite:
        yield Finding(
            rule="not_finite",
            severity="error",
            layer=report.layer,
            evidence={"nan": float(report.n_nan), "inf": float(report.n_inf)},
            meaning=f"{counted(report.n_nan, 'weight')} {'is' if report.n_nan == 1 else 'are'} NaN and {report.n_inf:,} infinite; the layer cannot run.",
            action="Open an earlier checkpoint of the run; lower the learning rate or clip gradients.",
        )
    if untouched := _untouched(report):
        n, in_all = len(untouched), _n_tensors(report)
        key, reason = next(iter(untouched.items()))
        yield Finding(
            rule="untrained",
            severity="error" if n == in_all else "warning",
            layer=report.layer,
            evidence={"tensors_at_initialisation": float(n), "tensors": float(in_all)},
            meaning=f"{n} of {in_all} tensors look{'s' * (n == 1)} as training began, the first is {key} ({reason}).",
            action="Check that the optimiser got these parameters, and that the trained file was saved and not the "
            "initial one.",
        )


def _untouched(report: LayerReport) -> dict[str, str]:
    """Tensor -> why it looks as training began, for the tensors where that means something.

    A trained tensor that moved little can look drawn from a customary distribution by chance: one W_a_up of four did in two
    of eight healthy layers. An optimiser that misses parameters misses all of a kind, so all of a kind must look so.
    """
    by_kind: dict[str, list[str]] = {}
    for key in report.at_initialisation:
        kind = re.search(r"W_down|W_a_up|W_b_up", key)
        by_kind.setdefault(kind.group() if kind else key, []).append(key)
    whole = _n_tensors(report) // 3 if report.semantics["rule"] == "rank_one_sum" else 1
    return {
        key: reason
        for kind in by_kind.values()
        for key in kind
        for reason in [report.at_initialisation[key]]
        if len(kind) >= whole or not reason.startswith(("normal", "uniform"))
    }


def overflow(error: NotFiniteError) -> Finding:
    """A value that is not finite in a forward pass; the error names its place."""
    return Finding(
        rule="not_finite",
        severity="error",
        layer=None,
        evidence={"finite": 0.0},
        meaning=f"{error}.",
        action="Follow the sentence above; until then no number about this checkpoint can be computed.",
    )


def _n_tensors(report: LayerReport) -> int:
    """Three a component and target for sums of rank-1 updates, two or three for the other rules."""
    if report.semantics["rule"] == "rank_one_sum":
        return 3 * sum(report.components_of.values())
    return 3 if report.semantics["rule"] == "additive_multiplicative" else 2

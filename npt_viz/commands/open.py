"""What a checkpoint holds, and whether it fits the base model."""

from typing import Annotated

import typer

from npt_viz.commands._options import AsJson, Device, Dtype, Model, Semantics
from npt_viz.commands._output import print_json, progress, say, table
from npt_viz.errors import NptVizError
from npt_viz.results.load_report import LoadReport


def run(
    checkpoint: Annotated[str, typer.Argument(help="A file or a folder.", show_default=False)],
    model: Model,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Open a checkpoint and print its load report."""
    import npt_viz

    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    report = npt_viz.open_checkpoint(checkpoint, base, semantics).report
    if as_json:
        print_json(report.to_json())
        for warning in report.warnings:
            say(f"warning: {warning}")
    else:
        print(in_words(report))
    broken = [layer for layer in report.layers if not layer.finite]
    if broken:
        raise NptVizError(
            f"{checkpoint}: layer {broken[0].layer} holds {broken[0].n_nan} NaN and {broken[0].n_inf} infinite "
            "weights and cannot run; open an earlier checkpoint of the run, or leave the layer out"
        )


def in_words(report: LoadReport) -> str:
    """Text of a LoadReport for a terminal."""
    headers = ("layer", "variant", "targets", "rank", "components", "dtype", "MB", "NaN", "Inf", "known how")
    rows = [
        (
            layer.layer,
            layer.variant,
            "+".join(layer.targets),
            layer.rank,
            layer.components,
            layer.dtype,
            layer.bytes / 1e6,
            layer.n_nan,
            layer.n_inf,
            layer.provenance,
        )
        for layer in report.layers
    ]
    lines = [f"{report.name}: {report.sentence}", "", table(headers, rows), "", report.base_match.sentence]
    lines += [
        f"claimed: {claim.key} = {claim.claimed}, found: {claim.found}"
        for claim in report.claims
        if not claim.agrees
    ]
    return "\n".join(lines + [f"warning: {warning}" for warning in report.warnings])

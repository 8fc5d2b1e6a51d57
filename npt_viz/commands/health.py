"""What is wrong with a checkpoint, with evidence and what to try."""

from typing import Annotated

import typer

from npt_viz.commands._options import (
    AllLayers,
    AsJson,
    Checkpoint,
    Device,
    Dtype,
    Model,
    Semantics,
    numbers,
)
from npt_viz.commands._output import print_json, progress, say


def run(
    model: Model,
    checkpoint: Checkpoint,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="A .txt or .jsonl file to measure on; a few of its windows are read. Default: bundled text.",
        ),
    ] = None,
    layers: AllLayers = None,
    floor: Annotated[
        bool,
        typer.Option("--floor", help="Also fit a fresh adapter of each layer's shape; takes minutes."),
    ] = False,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Judge a checkpoint by rules: load, collapse, size, objective, positions, predictions. Findings are no failure."""
    wanted = None if layers is None else numbers("--layers", layers)
    import npt_viz
    from npt_viz.analysis.health import NO_FLOOR
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.texts import texts_from_file

    texts = None if text is None else texts_from_file(text)
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    with out_of_memory_explained("this examination", "choose fewer --layers"):
        report = npt_viz.health(base, opened, texts, layers=wanted, floor=floor, progress=progress)
    progress("done", 1.0)
    if as_json:
        print_json(report)
    else:
        print(in_words(report))
    for note in report.notes:
        say(f"note: {note}{'; --floor does it' if note == NO_FLOOR else ''}")


def in_words(report) -> str:
    """Text of a HealthReport for a terminal."""
    from npt_viz.results.sentences.health import health
    from npt_viz.results.sentences.probe import probe

    parts = [f"{report.checkpoint} on {report.model}: {health(report)}"]
    for finding in report.findings:
        where = "" if finding.layer is None else f", layer {finding.layer}"
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in finding.evidence.items())
        parts.append(
            f"{finding.severity}: {finding.title}{where} ({finding.rule})\n"
            f"  {finding.meaning}\n  evidence: {numbers}\n  try: {finding.action}"
        )
    said = {finding.meaning for finding in report.findings} | set(report.notes)
    unsaid = [text for each in report.probes.values() if (text := str(probe(each))) not in said]
    if unsaid:
        parts.append("\n".join(unsaid))
    return "\n\n".join(parts)

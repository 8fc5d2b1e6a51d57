"""What holds over a corpus: running means, quantiles and worst tokens of every number; two scans compared."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from npt_viz.commands._options import (
    AllLayers,
    AsJson,
    Checkpoint,
    Device,
    Dtype,
    Mode,
    Model,
    Positions,
    Semantics,
    numbers,
)
from npt_viz.commands._output import print_json, say, stages, table

SHOWN = {
    "n": "tokens",
    "mean": "mean",
    "half_width": "± texts",
    "sd": "sd",
    "q5": "5 %",
    "q50": "median",
    "q95": "95 %",
}
"""Columns of the table: name in ScanResult.rows -> heading."""


def run(
    model: Model,
    checkpoint: Checkpoint,
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...",
            help="Text files, .jsonl, .parquet, folders, patterns, a folder of datasets' save_to_disk; or: sample.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Keep the scan there; the same command goes on where it was stopped or killed.",
        ),
    ] = None,
    field: Annotated[
        str, typer.Option("--field", help="Of JSON lines and tables, that holds the text.")
    ] = "text",
    paragraphs: Annotated[
        bool,
        typer.Option(
            "--paragraphs", help="In plain text a text ends at a blank line, and not with its file."
        ),
    ] = False,
    layers: AllLayers = None,
    mode: Mode = "local",
    positions: Positions = "deployed",
    predict: Annotated[
        bool,
        typer.Option(
            "--predict/--no-predict",
            help="Also KL, NLL and agreement; without them no layer above the last runs.",
        ),
    ] = True,
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Tokens of a text that are evaluated together; 512 by default."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=2, help="End after so many tokens.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Worst tokens that are kept of every number.")
    ] = 10,
    part_tokens: Annotated[
        int,
        typer.Option("--part-tokens", min=1, help="Of a part, which is kept whole; more make fewer files."),
    ] = 4096,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Measure on Ray in so many processes; 0 measures here.")
    ] = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Of a Ray cluster, or auto; without, --workers starts Ray here."
        ),
    ] = None,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs of a worker.")] = 0.0,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="DIR", help="Compare with the scan in that folder, as A."),
    ] = None,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Scan a corpus part by part; say what holds over it, and where it holds least."""
    wanted = None if layers is None else numbers("--layers", layers)
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.scanning.corpus import Corpus

    if ray is not None and not workers:
        raise typer.BadParameter("an address goes with --workers, how many there are", param_hint="--ray")
    read = Corpus(paths=tuple(corpus), field=field, split="blank lines" if paragraphs else "file")
    # Before minutes of work: a folder that holds no finished scan.
    other = None if against is None else npt_viz.read_scan(against)
    told = stages()
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=told)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    settings: dict[str, Any] = dict(
        layers=wanted,
        mode=mode,
        positions=positions,
        predict=predict,
        window=window,
        max_tokens=max_tokens,
        top=top,
        part_tokens=part_tokens,
    )
    if workers:
        from npt_viz.scanning.cluster import Opened, on_ray

        names = Opened(model=model, checkpoint=checkpoint, semantics=semantics, dtype=dtype, device=device)
        settings["executor"] = on_ray(names, workers=workers, address=ray, gpus=gpus)
    with tempfile.TemporaryDirectory(prefix="npt_viz-scan-") as unkept:
        folder = out or Path(unkept) / "scan"
        try:
            with out_of_memory_explained("this scan", "choose a smaller --window, or fewer --layers"):
                result = npt_viz.scan(base, opened, read, out=folder, progress=told, **settings)
        except KeyboardInterrupt:
            say(f"stopped; the same command goes on with it in {out}" if out else "stopped")
            raise typer.Exit(130) from None
        # Here: differences text by text are read from the parts.
        comparison = None if other is None else npt_viz.compare_scans(other, result)
    if as_json:
        print_json(_as_json(result, comparison, out))
    else:
        print(in_words(result, comparison))
    for note in result.notes:
        say(f"note: {note}")


def _as_json(result, comparison, folder: str | None) -> dict:
    from npt_viz.results.sentences.scan import scan
    from npt_viz.scanning.folder import result_json

    sentences = {layer: str(scan(result, layer)) for layer in result.layers}
    content = {"sentences": sentences, "numbers": list(result.rows()), "groups": list(result.group_rows())}
    content |= {"worst": list(result.worst_rows()), "scan": result_json(result), "folder": folder}
    if comparison is not None:
        content["against"] = {"is_paired": comparison.is_paired, "differences": list(comparison.rows())}
    return content


def in_words(result, comparison=None) -> str:
    """Text of a scan for a terminal."""
    from npt_viz.results.sentences.scan import scan, scan_comparison

    parts = [str(scan(result, layer)) for layer in result.layers]
    rows = [
        [_key(row), *(row[name] for name in SHOWN)]
        for row in result.rows()
        if row["n"] and not _is_minor(row["number"])
    ]
    parts.append("sinks left out\n" + table(["number", *SHOWN.values()], rows))
    keys = [f"{layer} recovered" for layer in result.layers] + ["kl"]
    keys = [key for key in keys if result.has(key)]
    parts.append(_classes(result, keys))
    worst = [
        [_key(row), row["value"], row["token"], row["source"], row["before"][-40:]]
        for row in result.worst_rows()
        if row["place"] < 3 and _key(row) in keys
    ]
    parts.append("worst tokens\n" + table(["number", "value", "token", "where", "after"], worst))
    if skipped := [f"{n:,} {what}" for what, n in result.skipped.items() if n]:
        parts.append(f"left out: {', '.join(skipped)}")
    if comparison is not None:
        shared = [each.quantity.key for each in comparison.differences]
        parts.append("\n".join(str(scan_comparison(comparison, key)) for key in keys if key in shared))
    return "\n\n".join(parts)


def _classes(result, keys: list[str]) -> str:
    from npt_viz.results.scan import CLASSES

    moments = result.group("class")
    at = [result.index(key) for key in keys]
    rows = [
        [name, int(moments.n[i].max()), *(float(moments.means[i, j]) for j in at)]
        for i, name in enumerate(CLASSES)
        if moments.n[i].any()
    ]
    return "means by class of token\n" + table(["class", "tokens", *keys], rows)


def _key(row: dict) -> str:
    return row["number"] if row["layer"] is None else f"{row['layer']} {row['number']}"


def _is_minor(number: str) -> bool:
    """Scalars of further components: the first stands for them here, all are in the folder."""
    return number.startswith("scalar_") and not number.endswith("_0")

"""Write a checkpoint in another format."""

from typing import Annotated, Literal

import typer

from npt_viz.commands._options import AsJson, Device, Dtype, Semantics
from npt_viz.commands._output import print_json, progress, say


def run(
    source: Annotated[str, typer.Argument(help="A file or a folder.", show_default=False)],
    destination: Annotated[str, typer.Argument(help="The folder to write.", show_default=False)],
    to: Annotated[
        Literal["native", "A"],
        typer.Option("--to", help="native: npt_config.json and safetensors; A: npt_weights.pt."),
    ] = "native",
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="The base model; its fingerprint goes into the file."),
    ] = None,
    semantics: Semantics = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier checkpoint there.")
    ] = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint as the native format or as format A; every value keeps its bits."""
    import npt_viz

    base = None if model is None else npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    path, notes = npt_viz.convert(
        source, destination, to, model=base, semantics=semantics, overwrite=overwrite
    )
    if as_json:
        print_json({"path": str(path), "format": to, "notes": notes})
    else:
        print(path)
    for note in notes:
        say(f"note: {note}")

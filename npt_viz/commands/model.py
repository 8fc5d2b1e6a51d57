"""Put a base model on this machine."""

from typing import Annotated

import typer

from npt_viz.commands._options import AsJson
from npt_viz.commands._output import print_json, stages


def run(
    name: Annotated[str, typer.Argument(help="smollm2-135m, a hub id, a folder or a .gguf file.")],
    as_json: AsJson = False,
) -> None:
    """Have a base model on this machine: fetch and convert it once if need be, and say where it is."""
    from npt_viz.model.locating import located

    found = located(name, stages(), fetch=True)
    if as_json:
        print_json({"name": name, "source": found.source, "path": str(found.path)})
    else:
        print(f"{name}: {found.source}, {found.path}")

"""Put a base model on this machine."""

from typing import Annotated

import typer

from npt_viz.commands._options import AsJson
from npt_viz.commands._output import print_json, stages


def run(
    name: Annotated[str, typer.Argument(help="smollm2-135m, a hub id, a folder or a .gguf file.")],
    as_json: AsJson = False,
) -> None:
    """Fetch and convert a base model where it is not on this machine yet, and print its folder."""
    from npt_viz.model.locating import located

    files = located(name, stages(), fetch=True)
    if as_json:
        print_json({"name": name, "source": files.source, "path": str(files.path)})
    else:
        print(f"{name}: {files.source}, {files.path}")

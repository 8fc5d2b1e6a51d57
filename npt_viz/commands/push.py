"""Push a checkpoint to the Hugging Face hub."""

from typing import Annotated

import typer

from npt_viz.commands._options import AsJson, Checkpoint
from npt_viz.commands._output import print_json


def run(
    checkpoint: Checkpoint,
    to: Annotated[
        str, typer.Option("--to", metavar="OWNER/NAME", help="Repository on the hub.", show_default=False)
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a repository that is made for it.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Push a checkpoint in the native format, with its card, in one commit; print the commit's address."""
    import npt_viz

    address = npt_viz.push_checkpoint(checkpoint, to, private=not public, message=message)
    if as_json:
        print_json({"hub_id": to, "commit": address})
    else:
        print(address)

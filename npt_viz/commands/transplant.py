"""Put one token's weight change in the place of another's."""

from typing import Annotated, Literal

import typer

from npt_viz.commands._options import (
    AsJson,
    Checkpoint,
    Device,
    Dtype,
    Model,
    Positions,
    Semantics,
    TopK,
    numbers,
)
from npt_viz.commands._output import print_json, progress, table


def run(
    model: Model,
    checkpoint: Checkpoint,
    donor: Annotated[
        str, typer.Option("--donor", help="The text whose token gives its ΔW.", show_default=False)
    ],
    prompt: Annotated[
        str, typer.Option("--prompt", help="The text whose token receives it.", show_default=False)
    ],
    layers: Annotated[
        str,
        typer.Option("--layers", metavar="3,15", help="NPT layers that run and receive.", show_default=False),
    ],
    donor_token: Annotated[int, typer.Option("--donor-token", help="Position, negative from the end.")] = -1,
    token: Annotated[int, typer.Option("--token", help="Position, negative from the end.")] = -1,
    operation: Annotated[
        Literal["replace", "blend", "add", "scale"], typer.Option("--operation", help="On ΔW.")
    ] = "replace",
    strength: Annotated[float, typer.Option("--strength")] = 1.0,
    mode: Annotated[
        Literal["local", "propagated"],
        typer.Option("--mode", help="Whether the donor runs through the base or the NPT model."),
    ] = "local",
    positions: Positions = "deployed",
    top_k: TopK = 10,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Put one token's ΔW in the place of another's and compare the NPT model with itself."""
    chosen = numbers("--layers", layers)
    import npt_viz

    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    result = npt_viz.transplant(
        base,
        opened,
        donor,
        prompt,
        layers=chosen,
        donor_token=donor_token,
        token=token,
        operation=operation,
        strength=strength,
        mode=mode,
        positions=positions,
        top_k=top_k,
    )
    if as_json:
        print_json(transplant_json(result))
    else:
        print(in_words(result))


def transplant_json(result) -> dict:
    """A Transplant as plain values."""
    from npt_viz.results.sentences.editing import transplant

    return {
        "donor_token": result.donor_token,
        "token": result.token,
        "layers": result.layers,
        "operation": result.operation,
        "strength": result.strength,
        "npt_top": result.npt.next_tokens,
        "transplanted_top": result.transplanted.next_tokens,
        "base_top": result.base.next_tokens,
        "donor_top": result.donor_top,
        "tokens": [piece.glyph for piece in result.pieces],
        "kl_per_token": result.transplanted.kl,
        "kl": float(result.transplanted.kl[-1]),
        "sentence": str(transplant(result)),
        "ranks": [row._asdict() for row in result.next_tokens],
        "shares": [share._asdict() for share in result.shares],
    }


def in_words(result) -> str:
    """A Transplant as text for a terminal."""
    from npt_viz.results.sentences.editing import transplant

    rows = [
        (row.glyph, row.probability_before, row.probability_after, row.rank_before, row.rank_after)
        for row in result.next_tokens
    ]
    by_token = [
        (i, p.glyph, float(kl))
        for i, (p, kl) in enumerate(zip(result.pieces, result.transplanted.kl, strict=True))
    ]
    shares = [(share.layer, share.kl_at_token, share.kl_at_end) for share in result.shares]
    return "\n\n".join(
        [
            result.sentence,
            str(transplant(result)),
            "next token\n"
            + table(("token", "p NPT", "p transplanted", "rank NPT", "rank transplanted"), rows),
            "KL(NPT ‖ transplanted), nats\n" + table(("#", "after", "KL"), by_token),
            "each layer alone\n" + table(("layer", "KL at the token", "KL at the end"), shares),
        ]
    )

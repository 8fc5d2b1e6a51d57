"""Sample texts from the base model, to train and to measure on."""

import json
from typing import Annotated

import typer

from npt_viz.commands._options import Device, Dtype, Model
from npt_viz.commands._output import progress, say
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.places import typed_path


def run(
    model: Model,
    out: Annotated[str, typer.Option("--out", metavar="FILE.jsonl", help="Where the texts go.")],
    texts: Annotated[int, typer.Option("--texts", help="How many.")] = 448,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of each, with the start.")] = 257,
    start: Annotated[
        list[str],
        typer.Option("--start", help="What a text begins with; several are taken in turn, batch by batch."),
    ] = ["<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "<|im_start|>user\n"],  # noqa: B006
    temperature: Annotated[float, typer.Option("--temperature")] = 1.0,
    batch: Annotated[int, typer.Option("--batch", help="Texts at a time; part of the recipe.")] = 56,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Sample texts from the base model, to train and to measure on."""
    path = typed_path(out)
    if path.suffix != ".jsonl":
        raise NptVizError(f"{out} must end in .jsonl: one JSON object with a text is written on every line")
    import npt_viz
    from npt_viz.training.sampling import sampled_texts

    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    drawn = sampled_texts(
        base,
        texts,
        tokens=tokens,
        starts=start,
        temperature=temperature,
        batch=batch,
        seed=seed,
        progress=lambda done, total: progress(f"{done} of {total} texts", done / total),
    )
    # The mark that only says where a document begins is not part of the text.
    lines = [json.dumps({"text": t.removeprefix("<|endoftext|>")}, ensure_ascii=False) + "\n" for t in drawn]
    write_whole(path, "".join(lines))
    say(f"{len(drawn)} texts in {out}")

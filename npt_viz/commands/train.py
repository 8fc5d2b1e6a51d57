"""Train NPT layers on activations of the base model, and save them."""

from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import typer

from npt_viz.commands._options import AsJson, Device, Dtype, Model, Positions, numbers, weights, words
from npt_viz.commands._output import plain, print_json, progress, say, stages
from npt_viz.errors import NptVizError


def run(
    model: Model,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="3,15", help="Layers to train afresh.")
    ] = None,
    targets: Annotated[str, typer.Option("--targets", metavar="gate,up,down")] = "gate,up",
    rank: Annotated[int, typer.Option("--rank", help="Width of the bottleneck.")] = 64,
    components: Annotated[int, typer.Option("--components", help="Rank-1 updates a token (num_ranks).")] = 1,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Forward pass of a named variant (N1 … T1); N1's by default."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="C", help="Continue this checkpoint; it decides layers, targets and rank."
        ),
    ] = None,
    losses: Annotated[
        str, typer.Option("--losses", metavar="direct=1,…", help="Loss terms and their weights.")
    ] = "direct=1",
    steps: Annotated[int, typer.Option("--steps")] = 1500,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="FILE", help=".txt or .jsonl; text sampled from SmolLM2 by default."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak of the schedule.")] = 3e-3,
    batch_tokens: Annotated[int, typer.Option("--batch-tokens", help="Tokens a step.")] = 256,
    positions: Positions = "deployed",
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder for the checkpoint.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier checkpoint in DIR.")
    ] = False,
    stored: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option("--save-dtype", help="Of the saved weights.")
    ] = "float32",
    licence: Annotated[str, typer.Option("--licence", help="Written into the checkpoint.")] = "not stated",
    fault: Annotated[
        str | None, typer.Option("--fault", help="What is wrong with it, for a deliberately bad specimen.")
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train adapters and report the share of the attention effect they recover on held-out text."""
    if (layers is None) == (start is None):
        raise typer.BadParameter("give --layers to train afresh or --from to go on, one of the two")
    terms = weights("--losses", losses)
    chosen = numbers("--layers", layers) if layers is not None else []
    _check_free(out, overwrite)
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.texts import bundled_texts, texts_from_file
    from npt_viz.training.log import FILE, save_log

    texts = texts_from_file(text) if text else bundled_texts()
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    if start is None:
        begin = _spec(chosen, words(targets), rank, components, variant)
    else:
        begin = npt_viz.open_checkpoint(start, base)
    with out_of_memory_explained("this training", "use fewer --layers, less text, or fewer --batch-tokens"):
        settings = {"learning_rate": learning_rate, "batch_tokens": batch_tokens, "positions": positions}
        training = npt_viz.train(
            base, begin, texts, terms, steps=steps, seed=seed, progress=stages(), **settings
        )
        result, rows, was_stopped = _trained(training, stored if out else "float32")
    if out is None:
        say("nothing was saved: there is no --out")
    else:
        recipe = {**asdict(training.recipe), "losses": terms, "text": text or "bundled sample", "from": start}
        recipe |= {"steps_done": result["steps"], "train_tokens": training.corpus.n_train}
        npt_viz.save_checkpoint(
            out,
            training.adapters,
            base,
            recipe=recipe,
            figures=plain({"heldout": result["layers"], "seconds": result["seconds"]}),
            licence=licence,
            dtype=stored,
            fault=fault,
            initial=training.initial,
            overwrite=overwrite,
        )
        save_log(Path(out) / FILE, rows, name=Path(out).name, settings=plain(training.described()))
        say(f"saved in {out}")
    if as_json:
        print_json(result | {"out": out})
    else:
        for layer, found in result["layers"].items():
            share, n_tokens = found["recovered"], found["n_tokens"]
            print(
                f"layer {layer}: {share:.3f} of the attention effect recovered on {n_tokens} held-out tokens"
            )
    if was_stopped:
        raise typer.Exit(130)


def _trained(training, stored: str) -> tuple[dict, list[dict], bool]:
    """What `--json` prints, the rows of its steps, and whether Ctrl-C ended it: what was learned until then counts.

    The figures are those of the weights as they are saved, rounded to the dtype `stored`.
    """
    rows, seconds, was_stopped = [], 0.0, False
    try:
        for step in training:
            rows += step.rows()
            seconds = step.seconds
            progress(f"step {step.number}, loss {step.total:.4f}", step.number / training.recipe.steps)
            if step.heldout is not None:
                shares = ", ".join(f"{layer}: {found.recovered:.3f}" for layer, found in step.heldout.items())
                say(f"step {step.number}: loss {step.total:.4f}, share recovered on held-out text {shares}")
    except KeyboardInterrupt:
        was_stopped = True
        say(f"stopped at step {training.done}")
    _round(training.adapters, stored)
    heldout = training.evaluation()
    result = {
        "heldout_recovered": fmean(found.recovered for found in heldout.values()),
        "steps": training.done,
        "seconds": seconds,
        "layers": {str(layer): asdict(found) for layer, found in heldout.items()},
    }
    return result, rows, was_stopped


def _round(adapters, stored: str) -> None:
    import torch

    with torch.no_grad():
        for adapter in adapters.values():
            for parameter in adapter.parameters():
                parameter.copy_(parameter.to(getattr(torch, stored)))


def _spec(layers: list[int], targets: list[str], rank: int, components: int, variant: str | None):
    from npt_viz import AdapterSpec
    from npt_viz.adapter import VARIANTS, Semantics

    if variant is not None and variant not in VARIANTS:
        raise NptVizError(f"variant {variant!r} does not exist; choose one of {', '.join(VARIANTS)}")
    semantics = VARIANTS[variant].semantics if variant else Semantics()
    return AdapterSpec(
        layers=tuple(layers), targets=tuple(targets), rank=rank, components=components, semantics=semantics
    )


def _check_free(out: str | None, overwrite: bool) -> None:
    """Before minutes of training, and not after them."""
    if out is not None and not overwrite and Path(out).exists() and any(Path(out).iterdir()):
        raise NptVizError(f"{out} is not empty; choose another --out, or add --overwrite")

"""Train NPT layers on activations of the base model, and save them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, get_args

import typer

from npt_viz.commands._options import AsJson, Device, Dtype, Model, Positions, numbers, words
from npt_viz.commands._output import plain, print_json, progress, say, stages
from npt_viz.errors import NptVizError
from npt_viz.training.recipe import FRESH_COMPONENTS, FRESH_RANK, FRESH_VARIANT, Recipe

DECIDED = (
    *("layers", "targets", "rank", "components", "variant", "start", "losses", "text", "seed"),
    *("learning_rate", "batch_tokens", "positions"),
)
"""Parameters of `run` that a saved training has already decided."""

Stored = Literal["float32", "bfloat16", "float16"]
STORED: tuple[Stored, ...] = get_args(Stored)


def run(
    context: typer.Context,
    model: Model,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="3,15", help="Layers to train afresh.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option("--targets", metavar="gate,up,down", help="In place of the variant's own projections."),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", help="Width of the bottleneck.")] = FRESH_RANK,
    components: Annotated[
        int, typer.Option("--components", help="Rank-1 updates a token (num_ranks).")
    ] = FRESH_COMPONENTS,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help=f"N1 … T1: forward pass and projections; {FRESH_VARIANT} by default."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="C", help="Continue this checkpoint; it decides layers, targets and rank."
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="PATH",
            help="Go on with a training that --out saved, step for step; more --steps make it longer.",
        ),
    ] = None,
    losses: Annotated[
        str,
        typer.Option(
            "--losses",
            metavar="direct=1,…",
            help="Loss terms and their weights; a name that does not exist lists them all.",
        ),
    ] = "direct=1",
    steps: Annotated[
        int | None,
        typer.Option("--steps", help=f"{Recipe.steps} by default, or those of the training resumed."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="FILE", help=".txt or .jsonl; text sampled from SmolLM2 by default."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = Recipe.seed,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Peak of the schedule.")
    ] = Recipe.learning_rate,
    batch_tokens: Annotated[int, typer.Option("--batch-tokens", help="Tokens a step.")] = Recipe.batch_tokens,
    positions: Positions = Recipe.positions,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Folder for the checkpoint; that of --resume by default."),
    ] = None,
    save_every: Annotated[
        int, typer.Option("--save-every", min=1, help="Steps between two saves in --out, to be resumed from.")
    ] = 500,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier checkpoint in DIR.")
    ] = False,
    stored: Annotated[
        Stored | None,
        typer.Option(
            "--save-dtype", help="Of the saved weights; float32 by default, or that of the training resumed."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            help="Written into the checkpoint; 'not stated' by default, or that of the training resumed.",
        ),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(
            "--fault",
            help="What is wrong with it, for a deliberately bad specimen; that of the training resumed by default.",
        ),
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train adapters and report the share of the attention effect they recover on held-out text."""
    if [layers, start, resume].count(None) != 2:
        raise typer.BadParameter(
            "give --layers to train afresh, --from or --resume to go on, one of the three"
        )
    chosen = numbers("--layers", layers) if layers is not None else []
    beside = None
    if resume is not None:
        _refuse_decided(context)
        from npt_viz.training.state import state_file

        beside = state_file(resume).parent
        if out is None:
            out, overwrite = str(beside), True
    _check_free(out, overwrite)
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.texts import bundled_texts, texts_from_file
    from npt_viz.training.losses import objective
    from npt_viz.training.spec import AdapterSpec
    from npt_viz.training.state import resumed
    from npt_viz.training.trainer import Training

    terms = objective(losses)
    texts = texts_from_file(text) if text else bundled_texts() if resume is None else []
    stated = _Stated() if beside is None else _stated_in(beside)
    stated = _Stated(
        stored=stored or stated.stored,
        licence=stated.licence if licence is None else licence,
        fault=stated.fault if fault is None else fault,
    )
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    with out_of_memory_explained("this training", "use fewer --layers, less text, or fewer --batch-tokens"):
        if resume is not None:
            training = resumed(base, resume, steps=steps, progress=stages())
        else:
            recipe = Recipe(
                steps=Recipe.steps if steps is None else steps,
                seed=seed,
                learning_rate=learning_rate,
                batch_tokens=batch_tokens,
                positions=positions,
            )
            begin = (
                npt_viz.open_checkpoint(start, base)
                if start is not None
                else AdapterSpec.of_variant(
                    variant,
                    chosen,
                    targets=None if targets is None else words(targets),
                    rank=rank,
                    components=components,
                )
            )
            origin = {"text": text or "bundled sample", "from": start}
            training = Training(base, begin, texts, terms, recipe, progress=stages(), origin=origin)
        folder = _Folder(Path(out), stated, overwrite, resume) if out else None
        result, was_stopped = _trained(training, folder, save_every)
    if folder is None:
        say("nothing was saved: there is no --out")
    else:
        folder.save(training, plain({"heldout": result["layers"], "seconds": result["seconds"]}))
        say(f"saved in {out}")
    if as_json:
        print_json(result | {"out": out})
    else:
        for layer, evaluation in result["layers"].items():
            share, n_tokens = evaluation["recovered"], evaluation["n_tokens"]
            print(
                f"layer {layer}: {share:.3f} of the attention effect recovered on {n_tokens} held-out tokens"
            )
    if was_stopped:
        raise typer.Exit(130)


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """What a user states of a checkpoint and no training decides."""

    stored: Stored = "float32"
    """Dtype of the saved weights."""

    licence: str = "not stated"
    fault: str | None = None


def _stated_in(folder: Path) -> _Stated:
    """What the checkpoint in a folder states; the defaults where there is none."""
    from npt_viz.checkpoint.source import NATIVE_CONFIG, open_files

    if not (folder / NATIVE_CONFIG).is_file():
        return _Stated()
    files = open_files(folder)
    dtypes = {info.dtype for info in files.store.infos.values()}
    files.store.close()
    # Weights that save_checkpoint wrote have one dtype.
    stored: list[Stored] = [dtype for dtype in STORED if dtypes == {dtype}]
    return _Stated(
        stored=stored[0] if stored else "float32",
        licence=files.native.get("licence") or _Stated.licence,
        fault=files.native.get("fault"),
    )


@dataclass
class _Folder:
    """Where a training is saved: checkpoint, log of its steps, and the state from which it can be resumed."""

    path: Path
    stated: _Stated
    overwrite: bool
    resume: str | None

    def __post_init__(self) -> None:
        from npt_viz.training.log import FILE, logged_rows
        from npt_viz.training.state import state_file, steps_saved

        self.rows: list[dict] = []
        """As Step.rows gives them; those before a resumed training are read from its log."""
        if self.resume is not None and (log := state_file(self.resume).parent / FILE).is_file():
            done, _ = steps_saved(self.resume)
            self.rows = [row for row in logged_rows(log)[0] if row["step"] <= done]

    def save(self, training, figures: dict) -> None:
        from npt_viz import save_checkpoint
        from npt_viz.training.log import FILE, save_log
        from npt_viz.training.state import STATE_FILE, save_state

        save_checkpoint(
            self.path,
            training.adapters,
            training.model,
            recipe=plain(training.described() | {"losses": training.objective.active}),
            figures=figures,
            licence=self.stated.licence,
            dtype=self.stated.stored,
            fault=self.stated.fault,
            initial=training.initial,
            overwrite=self.overwrite,
        )
        self.overwrite = True
        save_log(self.path / FILE, self.rows, name=self.path.name, settings=plain(training.described()))
        if training.is_between_steps:
            save_state(training, self.path / STATE_FILE)


def _trained(training, folder: _Folder | None, save_every: int) -> tuple[dict, bool]:
    """Take every step; (what `--json` prints, whether Ctrl-C ended the training).

    The figures are those of the weights as they are saved, rounded to the dtype of the folder.
    """
    seconds, was_stopped = 0.0, False
    try:
        with _ctrl_c_waits() as stop:
            for step in training:
                seconds = step.seconds
                progress(f"step {step.number}, loss {step.total:.4f}", step.number / training.total_steps)
                if step.heldout is not None:
                    shares = ", ".join(f"{layer}: {e.recovered:.3f}" for layer, e in step.heldout.items())
                    say(
                        f"step {step.number}: loss {step.total:.4f}, share recovered on held-out text {shares}"
                    )
                if folder is not None:
                    folder.rows += step.rows()
                    if step.number % save_every == 0 and step.number < training.total_steps:
                        folder.save(training, {})
                if stop.is_set():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        was_stopped = True
        say(f"stopped at step {training.done}")
    with _rounded(training.adapters, folder.stated.stored if folder else "float32"):
        heldout = training.evaluation()
    result = {
        "heldout_recovered": fmean(evaluation.recovered for evaluation in heldout.values()),
        "steps": training.done,
        "seconds": seconds,
        "layers": {str(layer): asdict(evaluation) for layer, evaluation in heldout.items()},
    }
    return result, was_stopped


@contextmanager
def _ctrl_c_waits() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the step that runs ends and can be saved; a second Ctrl-C stops at once."""
    stop = threading.Event()

    def asked(number, frame) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _rounded(adapters, stored: str) -> Iterator[None]:
    """Round every weight to a dtype inside the block; afterwards the old bits are back."""
    import torch

    parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(parameter.to(getattr(torch, stored)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)


def _refuse_decided(context: typer.Context) -> None:
    for name in DECIDED:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--from" if name == "start" else f"--{name.replace('_', '-')}"
            raise typer.BadParameter(
                f"the saved training has decided {option}; leave it out", param_hint="--resume"
            )


def _check_free(out: str | None, overwrite: bool) -> None:
    """Refuse an --out in which the checkpoint could not be saved, before anything is trained."""
    if out is None:
        return
    folder = Path(out).expanduser()
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise NptVizError(f"{place}: is a file; --out names a folder: choose another --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise NptVizError(f"{out} is not empty; choose another --out, or add --overwrite")
    from npt_viz.checkpoint.saving import refuse_foreign

    refuse_foreign(folder)

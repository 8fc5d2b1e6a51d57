"""Train NPT layers on activations of the base model, and save them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import typer

from npt_viz.commands._options import AsJson, Device, Dtype, Model, Positions, numbers, words
from npt_viz.commands._output import plain, print_json, progress, say, stages
from npt_viz.errors import NptVizError
from npt_viz.places import typed_path
from npt_viz.training.recipe import (
    AUTOCAST,
    FRESH_COMPONENTS,
    FRESH_LOSSES,
    FRESH_RANK,
    FRESH_VARIANT,
    INITIALISATIONS,
    SCHEDULES,
    STREAMS,
    TOKENS,
    WINDOW,
    Recipe,
)
from npt_viz.training.settings import SETTINGS, line

Stored = Literal["float32", "bfloat16", "float16"]
SAVING = ("stored", "licence", "fault")
"""Settings that a resumed training may change: they are of the file and not of the training."""


def _option(name: str, metavar: str | None = None, default: object = None, **more: Any):
    return typer.Option(SETTINGS[name].option, metavar=metavar, help=line(name, default), **more)


def run(
    context: typer.Context,
    model: Model,
    layers: Annotated[str | None, _option("layers", "3,15")] = None,
    variant: Annotated[str | None, _option("variant", "N4", FRESH_VARIANT)] = None,
    targets: Annotated[str | None, _option("targets", "gate,up,down")] = None,
    attention: Annotated[Literal["withheld", "beside"] | None, _option("attention")] = None,
    scale: Annotated[float | None, _option("scale", default="that of the variant")] = None,
    rank: Annotated[int, _option("rank")] = FRESH_RANK,
    components: Annotated[int, _option("components")] = FRESH_COMPONENTS,
    initialisation: Annotated[str, _option("initialisation", "|".join(INITIALISATIONS))] = INITIALISATIONS[0],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="C",
            help="Continue this checkpoint, on clones of its adapters; it decides variant, targets and sizes.",
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
    losses: Annotated[str, _option("weights", "direct=1,…")] = FRESH_LOSSES,
    adaptive: Annotated[Literal["off", "gradient_norms", "as_written"], _option("adaptive")] = "off",
    stage_steps: Annotated[
        int | None, _option("stage_steps", "S", "no stages; the published S is 1000")
    ] = None,
    curriculum: Annotated[
        str, _option("curriculum", "500:0.3,1000:0.7", "off; on is 500:0.3,1000:0.7", show_default=False)
    ] = "off",
    gradient_scale: Annotated[float, _option("gradient_scale")] = 1.0,
    text: Annotated[str | None, _option("text", "FILE")] = None,
    samples: Annotated[int | None, _option("samples", "N")] = None,
    tokens: Annotated[int, _option("tokens")] = TOKENS,
    window: Annotated[int, _option("window")] = WINDOW,
    steps: Annotated[
        int | None, _option("steps", default=f"{Recipe.steps}, or those of the training resumed")
    ] = None,
    seed: Annotated[int, _option("seed")] = Recipe.seed,
    learning_rate: Annotated[float, _option("learning_rate")] = Recipe.learning_rate,
    warmup: Annotated[int, _option("warmup")] = Recipe.warmup,
    schedule: Annotated[str, _option("schedule", "|".join(SCHEDULES))] = Recipe.schedule,
    batch_tokens: Annotated[int, _option("batch_tokens")] = Recipe.batch_tokens,
    accumulate: Annotated[int, _option("accumulate")] = Recipe.accumulate,
    weight_decay: Annotated[float, _option("weight_decay")] = Recipe.weight_decay,
    clip: Annotated[float, _option("clip")] = Recipe.clip,
    evaluate_every: Annotated[int, _option("evaluate_every")] = Recipe.evaluate_every,
    whole_sequences: Annotated[bool, _option("whole_sequences")] = Recipe.whole_sequences,
    cosines_every: Annotated[int, _option("cosines_every")] = Recipe.cosines_every,
    stream: Annotated[str, _option("stream", "|".join(STREAMS))] = Recipe.stream,
    autocast: Annotated[Literal["auto", "on", "off"], _option("autocast")] = "auto",
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
        Stored | None, _option("stored", default="float32, or that of the training resumed")
    ] = None,
    licence: Annotated[
        str | None, _option("licence", default="'not stated', or that of the training resumed")
    ] = None,
    fault: Annotated[str | None, _option("fault", default="that of the training resumed")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train adapters and report the share of the attention effect they recover on held-out text.

    Exit status 1 where the training diverged (with --json: "diverged": true), 130 where Ctrl-C ended it.
    """
    _one_beginning(layers, start, resume)
    chosen = numbers("--layers", layers) if layers is not None else None
    if start is not None:
        _refuse_given(context, "AdapterSpec", "--from", "the checkpoint decides", but=("layers",))
    if text is not None and samples is not None:
        raise typer.BadParameter("give --text or --samples, one of the two")
    beside = None
    if resume is not None:
        _refuse_given(context, None, "--resume", "the saved training has decided", but=("steps", *SAVING))
        from npt_viz.training.state import state_file

        beside = state_file(resume).parent
        if out is None:
            out, overwrite = str(beside), True
    _check_free(out, overwrite)
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.texts import bundled_texts, texts_from_file
    from npt_viz.training.losses import curriculum_of, objective
    from npt_viz.training.saving import Stated, stated_in
    from npt_viz.training.spec import AdapterSpec
    from npt_viz.training.state import resumed

    terms = objective(
        losses,
        adaptive=adaptive,
        stage_steps=stage_steps,
        curriculum=curriculum_of(curriculum),
        gradient_scale=gradient_scale,
    )
    recipe = Recipe(
        steps=Recipe.steps if steps is None else steps,
        seed=seed,
        learning_rate=learning_rate,
        warmup=warmup,
        schedule=schedule,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        weight_decay=weight_decay,
        clip=clip,
        evaluate_every=evaluate_every,
        whole_sequences=whole_sequences,
        cosines_every=cosines_every,
        stream=stream,
        autocast=AUTOCAST[autocast],
        positions=positions,
    )
    texts = texts_from_file(text) if text else [] if resume or samples else bundled_texts()
    stated = Stated() if beside is None else stated_in(beside)
    given = {"stored": stored, "licence": licence, "fault": fault}
    stated = replace(stated, **{name: value for name, value in given.items() if value is not None})
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    with out_of_memory_explained("this training", "use fewer --layers, less text, or fewer --batch-tokens"):
        if resume is not None:
            training = resumed(base, resume, steps=steps, progress=stages())
        else:
            begin = (
                _opened(start, base, chosen)
                if start is not None
                else AdapterSpec.of_variant(
                    variant,
                    chosen or (),
                    targets=None if targets is None else words(targets),
                    attention=attention,
                    scale=scale,
                    rank=rank,
                    components=components,
                    initialisation=initialisation,
                )
            )
            origin = {
                "text": f"{samples} sampled texts" if samples else text or "bundled sample",
                "from": start,
            }
            training = _begun(base, begin, texts, terms, recipe, (tokens, window, samples), origin)
        folder = _Folder(typed_path(out), stated, overwrite, resume) if out else None
        result, was_stopped = _trained(training, folder, save_every)
    if folder is None:
        say("nothing was saved: there is no --out")
    else:
        folder.save(training, plain({"heldout": result["layers"], "seconds": result["seconds"]}))
        say(f"saved in {out}")
    _told(result | {"out": out}, as_json, training.recipe)
    if failed := [ending["sentence"] for ending in result["endings"] if ending["failed"]]:
        raise NptVizError("; ".join(failed))
    if was_stopped:
        raise typer.Exit(130)


def _told(result: dict, as_json: bool, recipe) -> None:
    if as_json:
        print_json(result)
        return
    from npt_viz.results.sentences.training import held_out

    for layer, evaluation in result["layers"].items():
        setting = {"positions": recipe.positions, "stream": recipe.stream}
        print(
            held_out(
                int(layer), evaluation, result["heldout_tokens"], result["heldout_note"] or "", **setting
            )
        )


def _begun(base, begin, texts, terms, recipe: Recipe, sizes: tuple[int, int, int | None], origin):
    """The training of a text that is given, or that the base writes first."""
    from npt_viz.training.data import corpus_of
    from npt_viz.training.rehearsal import rehearse
    from npt_viz.training.sampling import texts_of_base
    from npt_viz.training.trainer import Training

    tokens, window, samples = sizes
    rehearse(base, begin, terms)
    if samples is not None:
        texts = texts_of_base(base, samples, seed=recipe.seed, progress=stages())
    corpus = corpus_of(base, texts, seed=recipe.seed, tokens=tokens, window=window)
    say(f"{corpus.n_train:,} tokens to train on, {corpus.n_heldout:,} held out, attention sinks among them")
    return Training(base, begin, corpus, terms, recipe, progress=stages(), origin=origin)


def _opened(path: str, base, layers: list[int] | None):
    """A checkpoint to continue, or some of its layers."""
    from npt_viz.capture.inspection import layers_of
    from npt_viz.capture.opening import open_checkpoint

    checkpoint = open_checkpoint(path, base)
    if layers is None:
        return checkpoint
    return checkpoint.of_layers(layers_of(checkpoint, tuple(layers)))


@dataclass
class _Folder:
    """Where a training is saved, and the steps that its log has so far."""

    path: Path
    stated: Any
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
        from npt_viz.training.saving import save_training

        save_training(
            training, self.path, self.rows, stated=self.stated, figures=figures, overwrite=self.overwrite
        )
        self.overwrite = True


def _trained(training, folder: _Folder | None, save_every: int) -> tuple[dict, bool]:
    """Take every step; (what `--json` prints, whether Ctrl-C ended the training).

    The figures are those of the weights as they are saved, rounded to the dtype of the folder.
    """
    from npt_viz.training.learner import Diverged
    from npt_viz.training.saving import evaluated_as_saved, heldout_figures

    seconds, was_stopped, alarms, not_finite = 0.0, False, [], []
    try:
        with _ctrl_c_waits() as stop:
            for step in training:
                seconds = step.seconds
                alarms += step.alarms
                _step_told(step, training.total_steps)
                if folder is not None:
                    folder.rows += step.rows()
                    if step.number % save_every == 0 and step.number < training.total_steps:
                        folder.save(training, {})
                if stop.is_set():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        was_stopped = True
        say(f"stopped at step {training.done}")
    except Diverged as error:
        not_finite = [{"layer": None, "diverged": True, "failed": True, "sentence": str(error)}]
    if training.has_ended and training.done < training.total_steps:
        say(f"ended after {training.done} of {training.total_steps} steps: nothing more can come of it")
    heldout = evaluated_as_saved(training, folder.stated.stored if folder else "float32")
    endings = not_finite + [
        {
            "layer": layer,
            "diverged": ending.diverged,
            "failed": ending.failed,
            "sentence": ending.sentence,
        }
        for layer, ending in training.endings.items()
    ]
    result = {
        "heldout_recovered": fmean(evaluation.recovered for evaluation in heldout.values()),
        "heldout_tokens": training.corpus.n_heldout,
        "heldout_note": training.heldout_seen.note or None,
        "steps": training.done,
        "seconds": seconds,
        "diverged": any(ending["diverged"] for ending in endings),
        "endings": endings,
        "alarms": [asdict(alarm) for alarm in alarms],
        "layers": heldout_figures(heldout),
    }
    return result, was_stopped


def _step_told(step, total: int) -> None:
    """The line of a step, its evaluation where it has one, and the alarms that begin."""
    progress(f"step {step.number}, loss {step.total:.4f}", step.number / total)
    if step.heldout is not None:
        shares = ", ".join(f"{layer}: {each.recovered:.3f}" for layer, each in step.heldout.items())
        say(f"step {step.number}: loss {step.total:.4f}, share recovered on held-out text {shares}")
    for alarm in step.alarms:
        say(f"step {alarm.step}, layer {alarm.layer}, {alarm.severity}: {alarm.sentence}")


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


def _one_beginning(layers: str | None, start: str | None, resume: str | None) -> None:
    fresh_or_resumed = [layers, resume].count(None) == 1
    if (resume is not None and start is not None) or not (fresh_or_resumed or start is not None):
        raise typer.BadParameter(
            "give --layers to train afresh, --from or --resume to go on, one of the three (--layers beside --from "
            "takes some of its layers)"
        )


PARAMETERS = {name: {"weights": "losses", "as_written": "losses"}.get(name, name) for name in SETTINGS}
"""Setting -> parameter of `run`."""


def _refuse_given(
    context: typer.Context, home: str | None, option: str, reason: str, *, but: tuple[str, ...]
) -> None:
    """Refuse settings (of a home, or all) that were typed beside an option that decides them."""
    names = [name for name, each in SETTINGS.items() if home in (None, each.home) and name not in but]
    given = {PARAMETERS[name]: SETTINGS[name].option for name in names}
    if home is None:
        given["start"] = "--from"
    for parameter, typed in given.items():
        source = context.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{reason} {typed}; leave it out", param_hint=option)


def _check_free(out: str | None, overwrite: bool) -> None:
    """Refuse an --out in which the checkpoint could not be saved, before anything is trained."""
    if out is None:
        return
    folder = typed_path(out)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise NptVizError(f"{place}: is a file; --out names a folder: choose another --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise NptVizError(f"{out} is not empty; choose another --out, or add --overwrite")
    from npt_viz.checkpoint.saving import refuse_foreign

    refuse_foreign(folder)

"""Train arms that differ in their losses from the same start, and compare them."""

from pathlib import Path
from typing import Annotated

import typer

from npt_viz.commands._options import AsJson
from npt_viz.commands._output import print_json, progress, say, table
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.places import typed_path


def run(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="experiment.toml, or the folder of one to go on with or read."),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Folder for the results; runs/<name> by default."),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Train that many arms at once.")] = 1,
    share: Annotated[
        str | None,
        typer.Option("--share", metavar="1/2", help="Only the first of two parts of the runs, and so on."),
    ] = None,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write one row a run.")] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a report that needs nothing else.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train what is not finished yet, then print every arm against the reference."""
    from npt_viz.experiments.folder import SPEC
    from npt_viz.experiments.reading import read_experiment
    from npt_viz.experiments.spec_file import read_experiment_spec
    from npt_viz.training.log import RUNS

    source = typed_path(spec)
    experiment = read_experiment_spec(source / SPEC if source.is_dir() else source)
    folder = typed_path(out) if out else source if source.is_dir() else RUNS / source.stem
    was_stopped = False
    try:
        if processes > 1:
            _in_processes(experiment, folder, processes)
        else:
            _in_turn(experiment, folder, _part(share))
    except KeyboardInterrupt:
        was_stopped = True
        say(f"stopped; the same command goes on with what is not finished in {folder}")
    result = read_experiment(folder)
    if share is None:
        _written(result, csv, html)
        _told(result, as_json)
    if was_stopped:
        raise typer.Exit(130)
    if share is None and not result.n_finished:
        raise NptVizError(f"no run of {folder} finished; the reasons are above")


def _in_turn(experiment, folder: Path, part: tuple[int, int]) -> None:
    import npt_viz
    from npt_viz.experiments.folder import begin_folder, tasks
    from npt_viz.experiments.running import run_experiment
    from npt_viz.model.memory import out_of_memory_explained

    if all(task.is_finished for task in tasks(experiment, folder)):
        begin_folder(folder, experiment)  # Refuses what another experiment found.
        return
    model = npt_viz.open_model(
        experiment.model, dtype=experiment.dtype, device=experiment.device, progress=progress
    )
    with out_of_memory_explained("this experiment", "use fewer layers, less text, or fewer batch_tokens"):
        for event in run_experiment(model, experiment, folder, share=part, progress=progress):
            where = f"{event.number} of {event.total}: {event.task.arm}, seed {event.task.seed}"
            if event.step is not None:
                done = event.number - 1 + event.step.number / experiment.recipe.steps
                progress(f"{where}, loss {event.step.total:.4g}", min(0.999, done / event.total))
            else:
                say(f"{where}: {event.kind}" + (f" ({event.error})" if event.error else ""))


def _in_processes(experiment, folder: Path, n: int) -> None:
    from npt_viz.experiments.processes import run_in_processes

    for done in run_in_processes(experiment, folder, n):
        progress(f"training in {n} processes", done)


def _part(share: str | None) -> tuple[int, int]:
    if share is None:
        return 1, 1
    i, _, n = share.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise typer.BadParameter(f"{share!r} is no part such as 1/2", param_hint="--share")
    return int(i), int(n)


def _written(result, csv: str | None, html: str | None) -> None:
    if csv is not None:
        write_whole(csv, result.to_frame().to_csv(index=False))
        say(f"one row a run in {csv}")
    if html is not None:
        from npt_viz.figures.report import report

        write_whole(html, report(result))
        say(f"report in {html}")


def _told(result, as_json: bool) -> None:
    from npt_viz.results.experiments import MEASURES
    from npt_viz.results.sentences.experiments import experiment

    if as_json:
        comparisons = {name: result.comparisons(name) for name in MEASURES}
        print_json(
            {
                "name": result.name,
                "sentence": str(experiment(result)),
                "reference": result.reference,
                "seeds": result.seeds,
                "steps": result.steps,
                "base": result.base,
                "fair": result.is_fair,
                "comparisons": comparisons,
                "runs": result.to_frame().to_dict("records"),
                "folder": result.folder,
            }
        )
        return
    measure = "recovered"
    print(experiment(result, measure), end="\n\n")
    rows = [
        [c.arm, len(c.values), c.mean, c.spread, c.difference, c.half_width, c.verdict]
        for c in result.comparisons(measure)
    ]
    print(table(["arm", "seeds", MEASURES[measure].label, "spread", "difference", "±", "verdict"], rows))
    for run in result.runs:
        if run.error:
            say(f"{run.arm}, seed {run.seed} failed: {run.error}")
    for note in result.notes:
        say(note)
    if not result.is_fair:
        say(f"NOT comparable: the arms of seed {result.unfair_seeds[0]} did not begin alike")
    say(
        f"{result.n_finished} of {result.n_runs} runs finished; against {result.reference!r}; folder {result.folder}"
    )

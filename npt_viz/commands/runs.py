"""Values of one or more training logs, as a table, JSON, CSV or TensorBoard event files."""

from typing import Annotated

import typer

from npt_viz.commands._options import AsJson
from npt_viz.commands._output import print_json, say, table
from npt_viz.files import write_whole
from npt_viz.places import typed_path


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…",
            help="A steps.jsonl, a training_log.jsonl, a run-….wandb, a .csv export, or a folder of one or more.",
            show_default=False,
        ),
    ],
    csv: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE", help="Also write every row of every run to a CSV file."),
    ] = None,
    tensorboard: Annotated[
        str | None,
        typer.Option(
            "--tensorboard", metavar="DIR", help="Also write event files; needs tensorboard installed."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """First, last and best value of every loss and of what was measured on held-out text, and what to know of them."""
    from npt_viz.runs import logs_of, read_runs
    from npt_viz.runs.curves import better, summary

    runs = [run for path in paths for log in logs_of(typed_path(path)) for run in read_runs(log)]
    summaries = [
        [
            (layer, each)
            for layer, curves in run.layers.items()
            for column in curves.columns
            if better(column) and (each := summary(run, layer, column))
        ]
        for run in runs
    ]
    if csv is not None:
        _write_csv(runs, csv)
    if tensorboard is not None:
        from npt_viz.runs.tensorboard import write_events

        say(f"event files in {', '.join(map(str, write_events(runs, tensorboard)))}")
    if as_json:
        print_json([_described(run, values) for run, values in zip(runs, summaries, strict=True)])
        return
    headers = ["run", "column", "first", "last", "at step", "best", "at step"]
    rows = [
        [s.series, s.column, s.first, s.last, s.last_step, s.best, s.best_step]
        for values in summaries
        for _, s in values
    ]
    print(table(headers, rows))
    for run in runs:
        for note in run.notes:
            say(f"{run.name}: {note}")


def _described(run, summaries) -> dict:
    return {
        "name": run.name,
        "origin": run.origin,
        "part": run.part,
        "format": run.format,
        "last_step": run.last_step,
        "skipped": run.skipped,
        "marks": [{"step": step, "label": label} for step, label in run.marks],
        "notes": run.notes,
        "columns": run.columns,
        "values": [
            {
                "layer": layer,
                "column": s.column,
                "first": s.first,
                "last": s.last,
                "last_step": s.last_step,
                "best": s.best,
                "best_step": s.best_step,
                "n_values": s.n_values,
            }
            for layer, s in summaries
        ],
    }


def _write_csv(runs, path: str) -> None:
    import pandas

    write_whole(path, pandas.concat([run.to_frame() for run in runs], ignore_index=True).to_csv(index=False))

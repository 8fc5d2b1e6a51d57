"""Training logs: finding, reading and turning them into curves. Only `watching`, which writes one, runs a model."""

from npt_viz.runs.beside import files_of
from npt_viz.runs.curves import line, shares, summary
from npt_viz.runs.finding import found_runs
from npt_viz.runs.reading import logs_of, read_run, read_runs

__all__ = ["files_of", "found_runs", "line", "logs_of", "read_run", "read_runs", "shares", "summary"]

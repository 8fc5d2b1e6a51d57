"""Runs as TensorBoard event files, where tensorboard is installed."""

import re
from collections.abc import Sequence
from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.places import typed_path
from npt_viz.results.runs import Run
from npt_viz.runs.curves import line, series_name


def write_events(runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """One folder of event files for every run and layer; which ones.

    A long curve is thinned as for drawing: TensorBoard itself shows a sample. Raises NptVizError where tensorboard is
    not installed, where a folder has files already, and where it cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise NptVizError(
            "TensorBoard is not installed: `pip install tensorboard`, then export again"
        ) from None
    written = []
    for run in runs:
        for layer in run.layers:
            path = typed_path(folder) / (re.sub(r"[^\w.+-]+", "_", series_name(run, layer))[:60] or "run")
            try:
                if path.exists() and any(path.iterdir()):
                    raise NptVizError(f"{path} has files in it already; choose another folder")
                with SummaryWriter(str(path)) as writer:
                    _write(writer, run, layer)
            except OSError as error:
                raise NptVizError(
                    f"{path} cannot be written ({error.strerror}); choose another folder"
                ) from error
            written.append(path)
    return written


def _write(writer, run: Run, layer: int | None) -> None:
    for column in run.layers[layer].columns:
        drawn = line(run, layer, column)
        if drawn is not None:
            for step, value in zip(drawn.x.astype(int).tolist(), drawn.y.tolist(), strict=True):
                writer.add_scalar(column, value, step)

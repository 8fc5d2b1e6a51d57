"""Save a training in a folder: checkpoint, log of its steps, and the state from which it can be resumed."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.checkpoint import save_checkpoint
from npt_viz.checkpoint.finding import NATIVE_CONFIG
from npt_viz.checkpoint.source import open_files
from npt_viz.files import plain_json
from npt_viz.results.training import HeldOut
from npt_viz.training.log import FILE, save_log
from npt_viz.training.state import STATE_FILE, save_state
from npt_viz.training.trainer import Training

Stored = Literal["float32", "bfloat16", "float16"]
STORED: tuple[Stored, ...] = get_args(Stored)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a user states of a checkpoint and no training decides."""

    stored: Stored = "float32"
    """Dtype of the saved weights."""

    licence: str = "not stated"

    fault: str | None = None
    """What is wrong with it, for a deliberately bad specimen."""


def stated_in(folder: Path) -> Stated:
    """What the checkpoint in a folder states; the defaults where there is none."""
    if not (folder / NATIVE_CONFIG).is_file():
        return Stated()
    files = open_files(folder)
    dtypes = {info.dtype for info in files.store.infos.values()}
    files.store.close()
    # Weights that save_checkpoint wrote have one dtype.
    stored: list[Stored] = [dtype for dtype in STORED if dtypes == {dtype}]
    native = files.native or {}
    return Stated(
        stored=stored[0] if stored else "float32",
        licence=native.get("licence") or Stated.licence,
        fault=native.get("fault"),
    )


def evaluated_as_saved(training: Training, stored: Stored) -> dict[int, HeldOut]:
    """Held-out evaluation of the weights rounded to the dtype in which they are saved.

    In order, layers whose turn is over are as they were evaluated at its end.
    """
    with _rounded(training.adapters, stored):
        return dict(sorted((training.finished | training.evaluation()).items()))


def save_training(
    training: Training,
    folder: Path,
    rows: Iterable[Mapping],
    *,
    stated: Stated,
    figures: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write checkpoint, log and, between two steps, the state.

    rows: as Step.rows gives them, those before a resumed training with them.
    figures: what was measured of the weights as they are saved, such as evaluated_as_saved.

    Raises NptVizError where the folder cannot be written.
    """
    save_result(training, folder, stated=stated, figures=figures, overwrite=overwrite)
    save_progress(training, folder, rows, name=folder.name)


def save_result(
    training: Training, folder: Path, *, stated: Stated, figures: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write the adapters as they are now as a native checkpoint; see `save_training`."""
    endings = [ending.sentence for ending in training.endings.values()]
    save_checkpoint(
        folder,
        training.adapters,
        training.model,
        recipe=_described(training),
        figures=plain_json({**figures, "endings": endings}),
        licence=stated.licence,
        dtype=stated.stored,
        fault=stated.fault,
        initial=training.initial,
        overwrite=overwrite,
    )


def save_progress(training: Training, folder: Path, rows: Iterable[Mapping], *, name: str) -> None:
    """Write the log and, between two steps, the state: what `resumed` and `train --resume` take.

    In this order, so that a log is never behind the state that it belongs to; the steps that it has more are left out
    by whoever goes on.
    name: of the run, in its log.
    """
    save_log(folder / FILE, rows, name=name, settings=_described(training))
    if training.is_between_steps:  # One that is no longer finite ended inside a step.
        save_state(training, folder / STATE_FILE)


def _described(training: Training) -> dict:
    return plain_json(training.described() | {"losses": training.objective.active})


def heldout_figures(heldout: Mapping[int, HeldOut]) -> dict[str, dict]:
    """Layer -> its evaluation, as a checkpoint's `figures` have it."""
    return {str(layer): asdict(evaluation) for layer, evaluation in heldout.items()}


@contextmanager
def _rounded(adapters: Mapping[int, LayerAdapter], stored: Stored) -> Iterator[None]:
    """Round every weight to a dtype inside the block; afterwards the old bits are back."""
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

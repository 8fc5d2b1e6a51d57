"""See, train, compare and edit NPT layers: attention turned into per-token low-rank changes of the MLP weights.

The names below are imported when they are first used: `import npt_viz` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from npt_viz.errors import NptVizError

if TYPE_CHECKING:
    from npt_viz.analysis.attribution import attribution
    from npt_viz.analysis.health import health
    from npt_viz.capture.inspection import inspect
    from npt_viz.capture.opening import convert, open_checkpoint
    from npt_viz.checkpoint import save_checkpoint
    from npt_viz.editing.files.recipe import updates_from_recipe
    from npt_viz.editing.judging.preview import preview_update
    from npt_viz.editing.ledger import Ledger
    from npt_viz.editing.making.from_source import update_from
    from npt_viz.editing.making.rules import UpdateRule
    from npt_viz.editing.transplant import transplant
    from npt_viz.experiments.reading import read_experiment
    from npt_viz.experiments.running import run_experiment
    from npt_viz.experiments.spec_file import read_experiment_spec
    from npt_viz.model.opening import open_model
    from npt_viz.model.packaged import fetch_packaged
    from npt_viz.training.spec import AdapterSpec
    from npt_viz.training.trainer import train

_HOMES = {
    "open_model": "npt_viz.model.opening",
    "fetch_packaged": "npt_viz.model.packaged",
    "open_checkpoint": "npt_viz.capture.opening",
    "save_checkpoint": "npt_viz.checkpoint",
    "convert": "npt_viz.capture.opening",
    "inspect": "npt_viz.capture.inspection",
    "attribution": "npt_viz.analysis.attribution",
    "health": "npt_viz.analysis.health",
    "train": "npt_viz.training.trainer",
    "read_experiment_spec": "npt_viz.experiments.spec_file",
    "run_experiment": "npt_viz.experiments.running",
    "read_experiment": "npt_viz.experiments.reading",
    "preview_update": "npt_viz.editing.judging.preview",
    "update_from": "npt_viz.editing.making.from_source",
    "UpdateRule": "npt_viz.editing.making.rules",
    "Ledger": "npt_viz.editing.ledger",
    "updates_from_recipe": "npt_viz.editing.files.recipe",
    "transplant": "npt_viz.editing.transplant",
    "AdapterSpec": "npt_viz.training.spec",
}
"""Public name -> the module that has it."""

__all__ = [
    "AdapterSpec",
    "Ledger",
    "NptVizError",
    "UpdateRule",
    "attribution",
    "convert",
    "fetch_packaged",
    "health",
    "inspect",
    "open_checkpoint",
    "open_model",
    "preview_update",
    "read_experiment",
    "read_experiment_spec",
    "run_experiment",
    "save_checkpoint",
    "train",
    "transplant",
    "update_from",
    "updates_from_recipe",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"npt_viz has no {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Save and resume a training: one file, written whole or not at all, read without running code from it.

The file has the adapters, what AdamW remembers of them, the order of the text and the text's tokens: about four times
the adapters, and four bytes a token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from npt_viz.adapter import LayerAdapter, Semantics
from npt_viz.adapter.semantics import Provenance
from npt_viz.checkpoint import Checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.checkpoint.layout import layout_of
from npt_viz.checkpoint.source import CheckpointFiles
from npt_viz.checkpoint.store import MappingStore, read_torch_file, write_torch_file
from npt_viz.errors import NptVizError
from npt_viz.files import restore_overwritten, whole_file
from npt_viz.model.base import BaseModel
from npt_viz.places import typed_path
from npt_viz.progress import Progress, no_progress
from npt_viz.training.data import Corpus
from npt_viz.training.losses import Curriculum, Objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.streams import Captures
from npt_viz.training.trainer import Training

FORMAT = "npt_viz training, version 3"
STATE_FILE = "training_state.pt"
"""Its name beside the checkpoint."""


def save_state(training: Training, path: str | Path) -> Path:
    """Save a training: adapters, optimisers, text and its order, step.

    Raises NptVizError where it cannot be written, and inside a step; an earlier file of that name is then as it was.
    """
    path = typed_path(path)
    if not training.is_between_steps:
        raise NptVizError(
            f"{path}: not saved, because the training ended inside step {training.done + 1}; go on from what was saved "
            "last"
        )
    adapters = dict(training.adapters)
    if not isinstance(training.start, AdapterSpec):
        adapters = {layer: training.start.adapter(layer) for layer in training.layers} | adapters
    fields = {
        "format": FORMAT,
        "spec": asdict(training.start) if isinstance(training.start, AdapterSpec) else None,
        "recipe": asdict(training.recipe),
        "objective": _plain(training.objective),
        "origin": dict(training.origin),
        "start_split": None
        if isinstance(training.start, AdapterSpec)
        else (training.start.recipe or {}).get("split"),
        "base": training.model.fingerprint(training.layers),
        "train": _packed(training.corpus.train),
        "heldout": _packed(training.corpus.heldout),
        "adapters": _tensors(adapters),
        "initial": _tensors(training.initial),
        "semantics": {layer: asdict(adapter.semantics) for layer, adapter in adapters.items()},
        "state": training.state,
        "total_steps": training.total_steps,
    }
    with whole_file(path, parents=True) as partial:
        write_torch_file(partial, fields)
    return path


def resumed(
    model: BaseModel,
    path: str | Path,
    *,
    steps: int | None = None,
    progress: Progress = no_progress,
    captures: Captures | None = None,
) -> Training:
    """Continue a saved training; its steps are those of a training that never stopped.

    path: what save_state wrote, or the folder that has it as STATE_FILE.
    steps: of the whole training, those before included, in place of the saved number; the schedule of the learning
        rate is that of the new number.

    Raises NptVizError for a file that is none, another base, and a training that has no steps left.
    """
    path = state_file(path)
    fields = _fields(path)
    recipe, done = Recipe(**fields["recipe"]), fields["state"]["done"]
    if steps is not None and steps != recipe.steps:
        if fields["total_steps"] != recipe.steps:
            raise NptVizError(
                f"{path}: its layers train one after the other, {recipe.steps} steps each, which cannot change on the "
                "way; leave the number of steps as it is"
            )
        recipe = replace(recipe, steps=steps)
        fields["total_steps"] = steps
    if done >= fields["total_steps"]:
        raise NptVizError(f"{path}: has taken {done} steps already; give a larger number of steps to go on")
    if model.fingerprint([int(layer) for layer in fields["base"]["layers"]]) != fields["base"]:
        raise NptVizError(
            f"{path}: was trained on another base than {model.name}; open the base of that training"
        )
    semantics = {layer: Semantics(**each) for layer, each in fields["semantics"].items()}
    adapters = _checkpoint(
        fields["adapters"], semantics, model, path.name, recipe={"split": fields["start_split"]}
    )
    initial = _checkpoint(fields["initial"], semantics, model, path.name)
    state = dict(fields["state"])
    state["learners"] = {
        layer: (adapters.adapter(layer), initial.adapter(layer), learner)
        for layer, learner in state["learners"].items()
    }
    return Training(
        model,
        adapters if fields["spec"] is None else _spec(fields["spec"]),
        Corpus(train=_unpacked(fields["train"]), heldout=_unpacked(fields["heldout"])),
        _objective(fields["objective"]),
        recipe,
        progress=progress,
        captures=captures,
        resumed=state,
        origin=fields["origin"],
    )


def state_file(path: str | Path) -> Path:
    """The file that a path names: itself, or STATE_FILE in a folder; raises NptVizError where there is none."""
    path = typed_path(path)
    restore_overwritten(path)
    path = path / STATE_FILE if path.is_dir() else path
    if not path.is_file():
        raise NptVizError(
            f"{path}: there is no such file; give a {STATE_FILE} that a training saved, or its folder"
        )
    return path


def steps_saved(path: str | Path) -> tuple[int, int]:
    """(steps taken, steps of the whole training); raises NptVizError for a file that is no saved training."""
    fields = _fields(state_file(path))
    return fields["state"]["done"], fields["total_steps"]


def _fields(path: Path) -> dict:
    fields = read_torch_file(path)
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise NptVizError(f"{path}: is no saved training ({FORMAT}); give a file that a training saved")
    return fields


def _packed(sequences: Sequence[torch.Tensor]) -> dict:
    """Token sequences as one tensor: a file of many small ones is slow to read."""
    return {"ids": torch.cat(list(sequences)).int(), "lengths": [len(ids) for ids in sequences]}


def _unpacked(packed: Mapping) -> list[torch.Tensor]:
    return list(packed["ids"].long().split(packed["lengths"]))


def _tensors(adapters: Mapping[int, LayerAdapter]) -> dict[str, torch.Tensor]:
    tensors = {}
    for adapter in adapters.values():
        tensors |= {name: tensor.detach().cpu() for name, tensor in named_tensors(adapter).items()}
    return tensors


def _checkpoint(
    tensors: Mapping[str, torch.Tensor],
    semantics: Mapping[int, Semantics],
    model: BaseModel,
    name: str,
    recipe: Mapping | None = None,
) -> Checkpoint:
    files = CheckpointFiles(store=MappingStore(tensors))
    layout = layout_of(files.store.infos, name)
    of_layers = {layer: semantics[layer] for layer in layout.layers}
    provenance: dict[int, Provenance] = dict.fromkeys(of_layers, "from the file")
    return Checkpoint(
        files, layout, of_layers, provenance, name=name, format="memory", model=model, recipe=recipe
    )


def _spec(fields: Mapping) -> AdapterSpec:
    return AdapterSpec(**{**fields, "semantics": Semantics(**fields["semantics"])})


def _plain(objective: Objective) -> dict:
    fields = asdict(objective)
    return {**fields, "weights": dict(objective.weights), "as_written": sorted(objective.as_written)}


def _objective(fields: Mapping) -> Objective:
    curriculum = fields["curriculum"] and Curriculum(**fields["curriculum"])
    return Objective(**{**fields, "as_written": frozenset(fields["as_written"]), "curriculum": curriculum})

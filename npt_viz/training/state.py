"""A training on disk, to be continued: one file, written whole or not at all, read without running code from it."""

import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from npt_viz.adapter import LayerAdapter, Semantics
from npt_viz.checkpoint import Checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.checkpoint.layout import layout_of
from npt_viz.checkpoint.source import Source
from npt_viz.checkpoint.store import MappingStore, read_torch_file
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.progress import Progress, silent
from npt_viz.training.data import Corpus, corpus_of
from npt_viz.training.losses import Curriculum, Objective
from npt_viz.training.spec import AdapterSpec, Recipe
from npt_viz.training.trainer import Training

FORMAT = "npt_viz training, version 1"


def save_state(training: Training, path: str | Path) -> Path:
    """Write where a training is: adapters, optimisers, order of the text, step. Between two steps only.

    Raises NptVizError where it cannot be written; an earlier file of that name is then as it was.
    """
    path = Path(path)
    adapters = dict(training.adapters)
    if not isinstance(training.start, AdapterSpec):
        adapters = {layer: training.start.adapter(layer) for layer in training.layers} | adapters
    fields = {
        "format": FORMAT,
        "spec": asdict(training.start) if isinstance(training.start, AdapterSpec) else None,
        "recipe": asdict(training.recipe),
        "objective": _plain(training.objective),
        "base": training.model.fingerprint(training.layers),
        "text": training.corpus.digest(),
        "adapters": _tensors(adapters),
        "initial": _tensors(training.initial),
        "semantics": {layer: asdict(adapter.semantics) for layer, adapter in adapters.items()},
        "state": training.state,
    }
    _write(path, fields)
    return path


def resumed(
    model: BaseModel,
    path: str | Path,
    texts: Sequence[str] | Corpus,
    *,
    progress: Progress = silent,
    budget: int | None = None,
) -> Training:
    """A training that goes on from `path`, step for step as if it had never stopped.

    texts: the same as before; their activations are captured anew.
    Raises NptVizError for a file that is none, another base, and another text.
    """
    path = Path(path)
    if not path.is_file():
        raise NptVizError(f"{path}: there is no such file; give one that save_state wrote")
    fields = read_torch_file(path)
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise NptVizError(f"{path}: is no saved training ({FORMAT}); give a file that save_state wrote")
    recipe = Recipe(**fields["recipe"])
    corpus = texts if isinstance(texts, Corpus) else corpus_of(model, texts, seed=recipe.seed)
    semantics = {layer: Semantics(**found) for layer, found in fields["semantics"].items()}
    if model.fingerprint([int(layer) for layer in fields["base"]["layers"]]) != fields["base"]:
        raise NptVizError(
            f"{path}: was trained on another base than {model.name}; open the base of that training"
        )
    if corpus.digest() != fields["text"]:
        raise NptVizError(
            f"{path}: was trained on another text; give the text of that training, in the same order"
        )
    adapters = _checkpoint(fields["adapters"], semantics, model, path.name)
    initial = _checkpoint(fields["initial"], semantics, model, path.name)
    state = dict(fields["state"])
    state["learners"] = {
        layer: (adapters.adapter(layer), initial.adapter(layer), remembered)
        for layer, remembered in state["learners"].items()
    }
    return Training(
        model,
        adapters if fields["spec"] is None else _spec(fields["spec"]),
        corpus,
        _objective(fields["objective"]),
        recipe,
        progress=progress,
        budget=budget,
        resumed=state,
    )


def _tensors(adapters: Mapping[int, LayerAdapter]) -> dict[str, torch.Tensor]:
    found = {}
    for adapter in adapters.values():
        found |= {name: tensor.detach().cpu() for name, tensor in named_tensors(adapter).items()}
    return found


def _checkpoint(
    tensors: Mapping[str, torch.Tensor], semantics: Mapping[int, Semantics], model: BaseModel, name: str
) -> Checkpoint:
    source = Source(store=MappingStore(tensors))
    layout = layout_of(source.store.infos, name)
    found = {layer: semantics[layer] for layer in layout.layers}
    provenance = dict.fromkeys(found, "from the file")
    return Checkpoint(source, layout, found, provenance, name=name, format="memory", model=model)


def _spec(fields: Mapping) -> AdapterSpec:
    return AdapterSpec(**{**fields, "semantics": Semantics(**fields["semantics"])})


def _plain(objective: Objective) -> dict:
    fields = asdict(objective)
    return {**fields, "weights": dict(objective.weights), "as_written": sorted(objective.as_written)}


def _objective(fields: Mapping) -> Objective:
    curriculum = fields["curriculum"] and Curriculum(**fields["curriculum"])
    return Objective(**{**fields, "as_written": frozenset(fields["as_written"]), "curriculum": curriculum})


def _write(path: Path, fields: Mapping) -> None:
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            torch.save(fields, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:  # The second: torch's writer on a full disk.
        raise NptVizError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); what was there before is "
            "unchanged: check the space and the permissions, and save again"
        ) from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)

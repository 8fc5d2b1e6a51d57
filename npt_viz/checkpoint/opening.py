"""Open a checkpoint: names and shapes first, one layer's weights when that layer is asked for."""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from npt_viz.adapter import LayerAdapter, Semantics
from npt_viz.adapter.semantics import Provenance
from npt_viz.checkpoint import meaning, native
from npt_viz.checkpoint.finding import NATIVE_CONFIG, WEIGHTS, is_stage
from npt_viz.checkpoint.hub import name_on_hub
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.checkpoint.layout import Layout, layout_of, modulation
from npt_viz.checkpoint.meaning import Choice
from npt_viz.checkpoint.report import load_report
from npt_viz.checkpoint.source import CheckpointFiles, open_files
from npt_viz.checkpoint.store import MappingStore
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.files import restore_overwritten
from npt_viz.model.base import BaseModel
from npt_viz.model.finite import non_finite
from npt_viz.model.memory import check_fits, in_words, out_of_memory_explained
from npt_viz.results.load_report import LoadReport

CACHE_BYTES = 2 << 30
"""Bytes of float32 adapters that one checkpoint keeps in memory; the least recently used layers are dropped first."""


class Checkpoint:
    """Adapters of some layers, opened for one base model or for none.

    Safe to share between threads: adapters are read-only, and clones of them are what training changes.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        layout: Layout,
        semantics: Mapping[int, Semantics],
        provenance: Mapping[int, Provenance],
        *,
        name: str,
        format: str,
        model: BaseModel | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        self.files, self.layout, self.model = files, layout, model
        self.name, self.format = name, format
        self._semantics, self.provenance = dict(semantics), dict(provenance)
        self._adapters: OrderedDict[int, LayerAdapter] = OrderedDict()
        self._lock = threading.RLock()
        self._recipe = recipe

    @classmethod
    def from_adapters(
        cls,
        adapters: Mapping[int, LayerAdapter],
        model: BaseModel | None,
        name: str,
        *,
        recipe: Mapping[str, Any] | None = None,
        provenance: Provenance = "chosen by the user",
    ) -> "Checkpoint":
        """Adapters that are already in memory, as a checkpoint; `adapter(layer)` gives these very objects.

        recipe: how they were trained, where that is known. provenance: of their semantics.
        """
        tensors = {}
        for layer in sorted(adapters):
            tensors |= named_tensors(adapters[layer])
        files = CheckpointFiles(store=MappingStore(tensors))
        layout = layout_of(files.store.infos, name)
        semantics = {layer: adapter.semantics for layer, adapter in adapters.items()}
        origins: dict[int, Provenance] = dict.fromkeys(adapters, provenance)
        self = cls(files, layout, semantics, origins, name=name, format="memory", model=model, recipe=recipe)
        self._adapters.update(adapters)
        return self

    def of_layers(self, layers: Sequence[int]) -> "Checkpoint":
        """Some of the layers, as a checkpoint in memory."""
        chosen = {layer: self.adapter(layer) for layer in layers}
        return Checkpoint.from_adapters(chosen, self.model, self.name, recipe=self.recipe)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How it was trained, as npt_config.json tells it; None where nothing does."""
        return self._recipe or (self.files.native or {}).get("recipe")

    @property
    def path(self) -> Path | None:
        """The file or folder that was opened; None for live adapters."""
        return self.files.path

    @property
    def _where(self) -> str:
        return str(self.path or self.name)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the NPT layers, ascending."""
        return tuple(self.layout.layers)

    @property
    def config(self) -> Mapping:
        """npt_config.json, the config inside a format C file, or what a config beside the weights claims."""
        return self.files.native or self.files.claims

    @cached_property
    def report(self) -> LoadReport:
        """Load report of the file; reads every tensor once."""
        return load_report(
            self.files,
            self.layout,
            self._semantics,
            self.provenance,
            name=self.name,
            format=self.format,
            model=self.model,
        )

    def semantics(self, layer: int) -> Semantics:
        """The forward pass of one layer."""
        self._check(layer)
        return self._semantics[layer]

    def adapter(self, layer: int) -> LayerAdapter:
        """One layer's adapter in float32, without gradients, where that layer of the model lives.

        Reads the tensors of this layer only. Raises NptVizError for a layer that is not there and for a
        NaN or infinite weight.
        """
        self._check(layer)
        with self._lock:
            if layer not in self._adapters:
                self._adapters[layer] = self._read(layer)
            self._adapters.move_to_end(layer)
            # Live adapters exist nowhere else.
            while self.path is not None and len(self._adapters) > 1 and self.cached_bytes() > CACHE_BYTES:
                self._adapters.popitem(last=False)
            return self._adapters[layer]

    def with_semantics(
        self,
        choice: Choice | Mapping[int, Choice],
        provenance: Provenance = "chosen by the user",
        notes: Sequence[str] = (),
    ) -> "Checkpoint":
        """The same weights with another reading of them, for all layers or for some; shares the open file.

        notes: the evidence for the reading, in sentences; they join the report's warnings.
        """
        choices = choice if isinstance(choice, Mapping) else dict.fromkeys(self.layers, choice)
        semantics, origins = dict(self._semantics), dict(self.provenance)
        for layer, wanted in choices.items():
            self._check(layer)
            plan = self.layout.layers[layer]
            semantics[layer] = meaning.chosen(wanted, plan, semantics[layer], self.files.scale, self._where)
            origins[layer] = provenance
        return Checkpoint(
            replace(self.files, notes=(*self.files.notes, *notes)),
            self.layout,
            semantics,
            origins,
            name=self.name,
            format=self.format,
            model=self.model,
        )

    def close(self) -> None:
        """Drop the weights and close the file."""
        with self._lock:
            self._adapters.clear()
            self.files.store.close()

    def _check(self, layer: int) -> None:
        if layer not in self.layout.layers:
            raise NptVizError(
                f"{self._where}: has no layer {layer}; its NPT layers are {', '.join(map(str, self.layers))}: "
                "choose among these"
            )

    def _read(self, layer: int) -> LayerAdapter:
        plan, semantics = self.layout.layers[layer], self._semantics[layer]
        stored = sum(4 * math.prod(self.files.store.infos[key].shape) for key in plan.keys)
        rank = max(tensors.rank for tensors in plan.targets.values())
        # Norms and overlaps take products of two factors, rank × rank, of v_a and of v_b.
        needed = stored + 2 * 4 * rank**2
        what = f"{self._where}: layer {layer} of rank {rank:,} ({in_words(stored)} of weights)"
        advice = "use fewer layers, or an adapter of lower rank: beyond d_model a rank adds nothing"
        home = torch.device("cpu") if self.model is None else home_of(self.model, layer)
        check_fits(needed, home, what, advice)
        with out_of_memory_explained(what, advice):
            modulations = {
                target: modulation(tensors, self._values(layer, tensors.keys(semantics.rule)), semantics)
                for target, tensors in plan.targets.items()
            }
            adapter = LayerAdapter(layer, semantics, modulations).eval().requires_grad_(False)
            return adapter if self.model is None else adapter.to(home_of(self.model, layer))

    def _values(self, layer: int, keys: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[Tensor, ...]]:
        return {
            argument: tuple(self._finite(layer, key) for key in named) for argument, named in keys.items()
        }

    def _finite(self, layer: int, key: str) -> Tensor:
        tensor = self.files.store.read(key).float()
        if (bad := non_finite(tensor)) is not None:
            raise NotFiniteError(
                f"{self._where}: cannot run layer {layer}: {key} holds {bad}; open an earlier checkpoint of the run"
            )
        return tensor

    def cached_bytes(self) -> int:
        """Bytes of the adapters in memory."""
        return sum(4 * p.numel() for adapter in list(self._adapters.values()) for p in adapter.parameters())


def checkpoint_in(path: str | Path, model: BaseModel | None = None) -> Checkpoint:
    """The checkpoint at a path, its semantics read from the file or inferred; `capture.opening` has the other choices.

    model: the base; where given, the file's dimensions have to fit it.
    Raises NptVizError when the file is missing, damaged, unsafe, unknown, incomplete, or of another shape.
    """
    restore_overwritten(path)
    try:
        files = open_files(path)
    except OSError as error:
        raise NptVizError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        ) from None
    try:
        return _recognised(files, model)
    except NptVizError:
        files.store.close()
        raise


def _recognised(files: CheckpointFiles, model: BaseModel | None) -> Checkpoint:
    provenance: Mapping[int, Provenance]
    where = str(files.path)
    layout = layout_of(files.store.infos, where)
    if model is not None:
        check_fit(layout, model, where)
    if files.native is not None:
        described = native.read_layers(files.native, layout.layers, f"{where}/{NATIVE_CONFIG}")
        semantics, provenance, format_ = described.semantics, described.provenance, "native"
    else:
        plans = layout.layers.values()
        semantics = {plan.layer: meaning.inferred(plan, files.scale) for plan in plans}
        # Only a scale written down makes S2 or T1 the file's own statement; names alone never do.
        provenance = {
            plan.layer: "from the file"
            if files.scale is not None
            and plan.format != "A"
            and plan.rule in ("rank_one_sum", "low_rank_tanh")
            else "inferred from key names"
            for plan in plans
        }
        format_ = next(iter(plans)).format
    return Checkpoint(
        files, layout, semantics, provenance, name=_name(Path(where)), format=format_, model=model
    )


def _name(path: Path) -> str:
    """Name to show: the folder where every weights file has the same name, run/stage inside a run directory."""
    if (on_hub := name_on_hub(path)) is not None:
        return on_hub.removesuffix(f"/{path.name}") if path.name in WEIGHTS else on_hub
    parts = list(path.resolve().parts)
    if path.name in WEIGHTS:
        parts.pop()
    if len(parts) > 2 and is_stage(parts[-1]):
        return f"{parts[-3 if parts[-2] == 'checkpoints' else -2]}/{parts[-1]}"
    return parts[-1]


def check_fit(layout: Layout, model: BaseModel, where: str) -> None:
    """Raise NptVizError where the adapters have other dimensions than the model, or a layer that it does not have."""
    if (layout.d_model, layout.d_ffn or model.d_ffn) != (model.d_model, model.d_ffn):
        raise NptVizError(
            f"{where}: was made for d_model {layout.d_model}, d_ffn {layout.d_ffn}, but {model.name} has "
            f"{model.d_model}, {model.d_ffn}; open the base model that it was trained on"
        )
    beyond = [layer for layer in layout.layers if layer >= model.n_layers]
    if beyond:
        raise NptVizError(
            f"{where}: has an adapter for layer {beyond[0]}, but {model.name} has layers 0 to {model.n_layers - 1}; "
            "open the base model that it was trained on"
        )


def home_of(model: BaseModel, layer: int) -> torch.device:
    """The device on which the layer computes, also where accelerate keeps its weights elsewhere."""
    gate = model.parts(layer).gate
    device = getattr(getattr(gate, "_hf_hook", None), "execution_device", None)
    return torch.device(device) if device is not None else next(gate.parameters()).device

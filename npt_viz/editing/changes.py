"""Updates in a forward pass: alpha * (x v_a^T) v_b is added to the projection's output; no weight changes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from npt_viz.adapter import TARGETS, Target
from npt_viz.capture.running import Lane, LayerChange
from npt_viz.editing.updates import Factors, Update, accumulated
from npt_viz.model.base import BaseModel, weight_of
from npt_viz.shapes import Float


class LayerEdit:
    """Updates of one layer; otherwise it runs as in the base model."""

    attention = "standard"

    def __init__(self, factors: Mapping[Target, Factors], device: torch.device | str = "cpu") -> None:
        self._factors: dict[Target, tuple[Tensor, Tensor]] = {
            target: (torch.from_numpy(f.v_a).to(device), torch.from_numpy(f.v_b).to(device))
            for target, f in factors.items()
        }

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._factors)

    def change(
        self,
        target: Target,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"],
    ) -> Float[Tensor, "*batch out"]:
        """ΔW x; the attention and the output that it is added to do not matter."""
        return self.added(target, x).to(unmodulated)

    def added(self, target: Target, x: Float[Tensor, "*batch inp"]) -> Float[Tensor, "*batch out"]:
        """ΔW x: in float32, because the change is small beside what it is added to."""
        v_a, v_b = self._factors[target]
        return (x.to(v_a) @ v_a.T) @ v_b


class EditedNpt:
    """NPT layer on edited weights: an update made from a token's modulation counts twice at that token."""

    def __init__(self, adapter: LayerChange, edit: LayerEdit) -> None:
        self._adapter, self._edit = adapter, edit
        self.attention = adapter.attention

    @property
    def is_pooled(self) -> bool:
        return self._adapter.is_pooled

    def of_text(self, attention: Float[Tensor, "*batch token model"]) -> "EditedNpt":
        """As `LayerAdapter.of_text`."""
        return EditedNpt(self._adapter.of_text(attention), self._edit)

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(t for t in TARGETS if t in self._adapter.targets or t in self._edit.targets)

    def change(
        self,
        target: Target,
        attention: Float[Tensor, "*batch model"],
        x: Float[Tensor, "*batch inp"],
        unmodulated: Float[Tensor, "*batch out"],
    ) -> Float[Tensor, "*batch out"]:
        """The edit, and what the adapter makes of the edited projection's output."""
        added = torch.zeros_like(unmodulated)
        if target in self._edit.targets:
            added = self._edit.change(target, attention, x, unmodulated)
        if target in self._adapter.targets:
            added = added + self._adapter.change(target, attention, x, unmodulated + added)
        return added


def edited_lane(
    model: BaseModel,
    updates: Iterable[Update],
    adapters: Mapping[int, LayerChange] | None = None,
) -> Lane:
    """Lane of the base with these updates; with adapters, their layers run as NPT layers on top of the edited weights."""
    lane: dict = dict(adapters or {})
    for layer, edit in _by_layer(model, updates).items():
        lane[layer] = EditedNpt(lane[layer], edit) if layer in lane else edit
    return lane


@contextmanager
def edited(model: BaseModel, updates: Iterable[Update]) -> Iterator[None]:
    """Inside the block the base is the edited one, wherever its projections are called; afterwards no hook is left.

    Holds the model's lock. What a lane changes comes on top.
    """
    with model.lock, ExitStack() as stack:
        for layer, edit in _by_layer(model, updates).items():
            for target in edit.targets:
                projection = getattr(model.parts(layer), target)
                stack.callback(projection.register_forward_hook(_adding(edit, target)).remove)
        yield


def _adding(edit: LayerEdit, target: Target):
    return lambda module, args, output: output + edit.added(target, args[0]).to(output)


def _by_layer(model: BaseModel, updates: Iterable[Update]) -> dict[int, LayerEdit]:
    by_layer: dict[int, dict[Target, Factors]] = {}
    for place, parts in accumulated(updates).items():
        by_layer.setdefault(place.layer, {})[place.target] = parts
    return {layer: LayerEdit(targets, layer_device(model, layer)) for layer, targets in by_layer.items()}


def layer_device(model: BaseModel, layer: int) -> torch.device:
    """Device on which a layer computes, also when accelerate keeps its weights elsewhere."""
    gate = model.parts(layer).gate
    device = getattr(getattr(gate, "_hf_hook", None), "execution_device", None)
    return torch.device(device) if device is not None else weight_of(gate).device
